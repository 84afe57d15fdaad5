// SPDX-License-Identifier: GPL-2.0-only
//! Which CPUs may be granted, in which order and how many: the machine's
//! topology and the operator's bounds as the numbers BPF is given.

use crate::bpf_intf::FLEXNET_CPUS_MAX;
use anyhow::{Context, Result, ensure};
use scx_utils::{NR_CPU_IDS, Topology};

/// An online CPU.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Its number.
    pub id: usize,
    /// Its last-level cache's number.
    pub llc: usize,
}

/// What BPF knows about the CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// CPU numbers are below this.
    pub possible: u32,
    /// CPUs online.
    pub online: u32,
    /// CPUs that may be granted, first to last.
    pub grant_order: Vec<u32>,
    /// Most CPUs granted at once.
    pub net_cores_max: u32,
}

impl Plan {
    /// Other bounds than at the start, within what may be granted.
    pub fn bound(&mut self, max_net: Option<u32>) {
        let grantable = self.grant_order.len() as u32;
        self.net_cores_max = max_net.unwrap_or(grantable).min(grantable);
    }
}

/// The online CPUs by number.
pub fn online() -> Result<Vec<Cpu>> {
    ensure!(
        *NR_CPU_IDS <= FLEXNET_CPUS_MAX as usize,
        "{} possible CPUs are more than the {FLEXNET_CPUS_MAX} this scheduler supports",
        *NR_CPU_IDS
    );
    let topology = Topology::new().context("cannot read the CPU topology")?;
    Ok(topology
        .all_cpus
        .values()
        .map(|cpu| Cpu {
            id: cpu.id,
            llc: cpu.llc_id,
        })
        .collect())
}

/// Highest numbers first: interrupts and boot-time threads gather on the low
/// ones, and CPU 0 is never granted since one general core always stays.
pub fn plan(online: &[Cpu], possible: usize, min_general: u32, max_net: Option<u32>) -> Plan {
    let count = online.len() as u32;
    let grantable = count.saturating_sub(min_general.max(1));
    let mut order: Vec<u32> = online.iter().map(|cpu| cpu.id as u32).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    order.truncate(grantable as usize);
    Plan {
        possible: possible as u32,
        online: count,
        grant_order: order,
        net_cores_max: max_net.unwrap_or(grantable).min(grantable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(ids: &[usize]) -> Vec<Cpu> {
        ids.iter().map(|&id| Cpu { id, llc: 0 }).collect()
    }

    #[test]
    fn orders_and_bounds() {
        // online, min general, max net -> order, most
        type Row = (&'static [usize], u32, Option<u32>, &'static [u32], u32);
        let rows: &[Row] = &[
            (&[0], 1, None, &[], 0),
            (&[0, 1], 1, None, &[1], 1),
            (&[0, 1, 2, 3], 1, None, &[3, 2, 1], 3),
            (&[0, 1, 2, 3], 2, None, &[3, 2], 2),
            (&[0, 1, 2, 3], 1, Some(1), &[3, 2, 1], 1),
            (&[0, 1, 2, 3], 1, Some(0), &[3, 2, 1], 0),
            (&[0, 1, 2, 3], 1, Some(9), &[3, 2, 1], 3),
            (&[0, 1, 2, 3], 9, None, &[], 0),
            (&[0, 2, 3, 7], 1, None, &[7, 3, 2], 3),
            (&[0, 1], 0, None, &[1], 1),
        ];
        for &(online, min_general, max_net, order, most) in rows {
            let plan = plan(&cpus(online), 8, min_general, max_net);
            assert_eq!(plan.grant_order, order, "{online:?} {min_general}");
            assert_eq!(plan.net_cores_max, most, "{online:?} {max_net:?}");
        }
    }
}
