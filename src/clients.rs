// SPDX-License-Identifier: GPL-2.0-only
//! The clients: their ids, their quotas, and what each client holds. Bookkeeping without I/O;
//! control/ informs the kernel.

use crate::kernel::Limits;
use crate::pages::PageMap;
use crate::rules::Rules;
use crate::wake::Wake;
use flexnet::abi::name_text;
use rustix::io::Errno;
use std::collections::VecDeque;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its process, in the daemon's namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// For status; printable, zero-terminated.
    pub name: [u8; 16],
    /// Slots in use, a bit each.
    pub slots: u32,
    /// Its process's name when it connected.
    pub command: String,
    /// Its process's cgroup then.
    pub cgroup: String,
    /// Cores it asked to be guaranteed.
    pub cores_asked: u32,
    /// What it is given: cores that are its own while it has work, its weight, its
    /// bound.
    pub limits: Limits,
    /// Rung when none of its threads runs.
    pub bell: Wake,
    /// Its page's map, as soon as that is known.
    pub map: Option<u32>,
    /// Its page; `None` while that is being placed.
    pub page: Option<PageMap>,
}

/// The clients by id.
#[derive(Debug)]
pub struct Clients {
    slots: Vec<Option<Client>>,
    executors_max: u32,
    /// User and map of each page that was handed out and may be alive.
    pages: VecDeque<(u32, u32)>,
}

impl Clients {
    /// Room for so many clients of so many executors.
    pub fn new(clients_max: u32, executors_max: u32) -> Self {
        Self {
            slots: (0..clients_max).map(|_| None).collect(),
            executors_max,
            pages: VecDeque::new(),
        }
    }

    /// Clients there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Executors each client may register.
    pub fn executors_max(&self) -> u32 {
        self.executors_max
    }

    /// The id a new client of this user gets: the lowest free one. Users but
    /// root have half of them at most, so that one cannot lock out the others.
    pub fn admit(&self, uid: u32) -> Result<u32, Errno> {
        let quota = self.slots.len().div_ceil(2);
        let held = self.iter().filter(|(_, client)| client.uid == uid).count();
        if uid != 0 && held >= quota {
            return Err(Errno::DQUOT);
        }
        self.slots
            .iter()
            .position(Option::is_none)
            .map(|id| id as u32)
            .ok_or(Errno::NOSPC)
    }

    /// May this user be given one more page? Pages live as long as anybody has
    /// them mapped: clients that come and go and keep theirs are counted, too.
    pub fn admit_page(&mut self, uid: u32, alive: impl Fn(u32) -> bool) -> Result<(), Errno> {
        self.pages.retain(|&(_, map)| alive(map));
        let held = self
            .pages
            .iter()
            .filter(|&&(owner, _)| owner == uid)
            .count();
        if uid != 0 && held >= self.slots.len().max(2) {
            return Err(Errno::DQUOT);
        }
        Ok(())
    }

    /// Remembers that a page was handed to a user.
    pub fn note_page(&mut self, uid: u32, map: u32) {
        if !self.pages.contains(&(uid, map)) {
            self.pages.push_back((uid, map));
        }
    }

    /// What a client is given, beside the others: by the operator's rules, else what
    /// it asked for, if it is root's; of cores, as many as nobody else has.
    pub fn admit_limits(&self, client: &Client, rules: &Rules, cores_max: u32) -> Limits {
        let name = name_text(&client.name);
        let rule = rules.application(&name, &client.command, client.uid, &client.cgroup);
        let asked = match rule.and_then(|rule| rule.guarantee) {
            Some((cores, _)) => cores,
            None if client.uid == 0 => client.cores_asked,
            None => 0,
        };
        let given: u32 = self.iter().map(|(_, other)| other.limits.guarantee).sum();
        Limits {
            guarantee: asked.min(cores_max.saturating_sub(given)),
            weight: rule.and_then(|rule| rule.weight).unwrap_or(0),
            max_cores: rule.and_then(|rule| rule.max_cores).unwrap_or(0),
        }
    }

    /// Gives all clients what other rules say, the lowest id first; those whose
    /// limits have changed.
    pub fn follow(&mut self, rules: &Rules, cores_max: u32) -> Vec<(u32, Limits)> {
        let before: Vec<(u32, Limits)> = self.iter().map(|(id, c)| (id, c.limits)).collect();
        for client in self.slots.iter_mut().flatten() {
            client.limits = Limits::default();
        }
        let mut changed = Vec::new();
        for (id, old) in before {
            let limits = self.get(id).map(|c| self.admit_limits(c, rules, cores_max));
            if let (Some(limits), Some(client)) = (limits, self.get_mut(id)) {
                client.limits = limits;
                if limits != old {
                    changed.push((id, limits));
                }
            }
        }
        changed
    }

    /// Is this map some client's page?
    pub fn uses_map(&self, map: u32) -> bool {
        self.iter().any(|(_, client)| client.map == Some(map))
    }

    /// Enters a client under an id that `admit` gave.
    pub fn insert(&mut self, id: u32, client: Client) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            *slot = Some(client);
        }
    }

    /// Takes a client out.
    pub fn remove(&mut self, id: u32) -> Option<Client> {
        self.slots.get_mut(id as usize)?.take()
    }

    /// A client.
    pub fn get(&self, id: u32) -> Option<&Client> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// A client, to change.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Client> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// All clients, lowest id first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(id, client)| Some((id as u32, client.as_ref()?)))
    }

    /// May this client register an executor in this slot?
    pub fn admit_slot(&self, id: u32, slot: u32) -> Result<(), Errno> {
        let client = self.get(id).ok_or(Errno::NOTCONN)?;
        if slot >= self.executors_max {
            return Err(Errno::DQUOT);
        }
        if client.slots & (1 << slot) != 0 {
            return Err(Errno::BUSY);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Application, Glob, User};

    fn client(uid: u32) -> Client {
        Client {
            pid: 1,
            uid,
            name: [0; 16],
            slots: 0b10,
            command: "test".to_owned(),
            cgroup: "/".to_owned(),
            cores_asked: 2,
            limits: Limits {
                guarantee: 2,
                ..Limits::default()
            },
            bell: Wake::new().unwrap(),
            map: Some(uid),
            page: None,
        }
    }

    #[test]
    fn ids_are_the_lowest_free_and_users_have_half() {
        let mut clients = Clients::new(5, 2);
        for id in 0..3 {
            assert_eq!(clients.admit(1000), Ok(id));
            clients.insert(id, client(1000));
        }
        assert_eq!(clients.admit(1000), Err(Errno::DQUOT));
        assert_eq!(clients.admit(1001), Ok(3));
        clients.remove(1);
        assert_eq!(clients.admit(1000), Ok(1));
        for _ in 0..3 {
            let id = clients.admit(0).unwrap();
            clients.insert(id, client(0));
        }
        assert_eq!(clients.admit(0), Err(Errno::NOSPC));
        assert_eq!(clients.iter().count(), 5);
    }

    #[test]
    fn guarantees_are_roots_and_add_up_to_the_cores() {
        let mut clients = Clients::new(4, 1);
        let rules = Rules::default();
        let guarantee = |clients: &Clients, uid, asked, cores_max| {
            let mut client = client(uid);
            client.cores_asked = asked;
            clients.admit_limits(&client, &rules, cores_max).guarantee
        };
        assert_eq!(guarantee(&clients, 1000, 1, 3), 0);
        assert_eq!(guarantee(&clients, 0, 9, 3), 3);
        clients.insert(0, client(0));
        assert_eq!(guarantee(&clients, 0, 9, 3), 1);
        assert_eq!(guarantee(&clients, 0, 9, 1), 0);
    }

    /// One application for all of user 7, with so many cores.
    fn rules(guarantee: u32, weight: u32) -> Rules {
        let application = Application {
            line: 1,
            name: None,
            command: Some(Glob::new("te?t", 15).unwrap()),
            user: Some(User::find("7").unwrap()),
            cgroup: None,
            guarantee: Some((guarantee, (1, 1))),
            max_cores: Some(3),
            weight: Some(weight),
        };
        Rules {
            rules: vec![],
            applications: vec![application],
        }
    }

    #[test]
    fn the_operators_value_goes_before_the_clients() {
        let mut clients = Clients::new(4, 1);
        for (id, uid) in [(0, 7), (1, 0), (2, 7)] {
            let mut client = client(uid);
            client.limits = clients.admit_limits(&client, &rules(1, 50), 4);
            clients.insert(id, client);
        }
        let limits = |clients: &Clients, id| clients.get(id).unwrap().limits;
        let of = |guarantee, weight, max_cores| Limits {
            guarantee,
            weight,
            max_cores,
        };
        assert_eq!(limits(&clients, 0), of(1, 50, 3));
        assert_eq!(limits(&clients, 1), of(2, 0, 0));
        assert_eq!(limits(&clients, 2), of(1, 50, 3));
        // Other rules: root's client has what the others leave.
        let changed = clients.follow(&rules(3, 50), 4);
        assert_eq!(
            changed,
            [(0, of(3, 50, 3)), (1, of(1, 0, 0)), (2, of(0, 50, 3))]
        );
        assert_eq!(clients.follow(&rules(3, 50), 4), []);
        clients.follow(&Rules::default(), 4);
        assert_eq!(limits(&clients, 2), of(0, 0, 0));
    }

    #[test]
    fn a_single_client_is_admitted() {
        assert_eq!(Clients::new(1, 1).admit(1000), Ok(0));
    }

    #[test]
    fn slots_are_bounded_and_taken_once() {
        let mut clients = Clients::new(2, 3);
        assert_eq!(clients.admit_slot(0, 0), Err(Errno::NOTCONN));
        clients.insert(0, client(7));
        assert!(clients.uses_map(7) && !clients.uses_map(8));
        assert_eq!(clients.admit_slot(0, 0), Ok(()));
        assert_eq!(clients.admit_slot(0, 1), Err(Errno::BUSY));
        assert_eq!(clients.admit_slot(0, 3), Err(Errno::DQUOT));
    }

    #[test]
    fn pages_kept_after_leaving_count() {
        let mut clients = Clients::new(3, 1);
        for map in 0..3 {
            assert_eq!(clients.admit_page(1000, |_| true), Ok(()));
            clients.note_page(1000, map);
        }
        clients.note_page(1000, 2);
        assert_eq!(clients.admit_page(1000, |_| true), Err(Errno::DQUOT));
        assert_eq!(clients.admit_page(1001, |_| true), Ok(()));
        assert_eq!(clients.admit_page(1000, |map| map != 1), Ok(()));
    }
}
