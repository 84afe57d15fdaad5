// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A server for Redis clients: `redis_server [ADDRESS]`, then `redis-cli -p PORT`.
//!
//! Left to others: the service itself (redis.rs).

use flexnet::executor::Runtime;
use flexnet_examples::{listen, redis};

fn main() -> std::io::Result<()> {
    let runtime = Runtime::builder().name("redis").executors(2).build()?;
    let mut service = redis::serve(&runtime, listen(std::env::args().nth(1))?)?;
    service.wait()?
}
