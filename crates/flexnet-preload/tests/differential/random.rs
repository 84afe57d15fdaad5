// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! Repeatable choices.

/// xorshift64*.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    /// For one step of a case: the same whichever steps are left out before it.
    pub fn step(seed: u64, step: usize) -> Self {
        Self::new(
            seed ^ (step as u64)
                .wrapping_add(1)
                .wrapping_mul(0xD6E8_FEB8_6659_FD93),
        )
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly small, now and then around the sizes where something changes.
    pub fn size(&mut self) -> usize {
        match self.below(12) {
            0..5 => 1 + self.below(100),
            5..8 => 1 + self.below(2000),
            8 => self.pick(&[4096, 16_367, 16_368, 16_369, 16_383, 16_384]),
            9 => self.below(20_000),
            10 => self.below(70_000),
            _ => self.pick(&[0, 1, 65_536, 200_000]),
        }
    }
}
