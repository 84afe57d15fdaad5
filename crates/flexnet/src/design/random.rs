// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Random numbers for designs, from a seed.

/// Marsaglia's xorshift64*: victims and candidates, nothing that must be hard to
/// guess.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * bound.max(1) as u64) >> 32) as usize
    }
}
