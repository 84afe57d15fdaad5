// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! An HTTP/1.1 server by hyper, whose connections live on flexnet's executors: `http_server
//! [ADDRESS]`, then `curl http://ADDRESS/`.
//!
//! [`TokioIo`] makes flexnet's connection one for hyper. hyper also takes a timer, for clients that
//! never end their request. There is no tokio runtime.

use flexnet::coroutine::{Sleep, sleep_until};
use flexnet::executor::Runtime;
use flexnet_examples::listen;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A client that has not sent the head of its request by then is left.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let runtime = Runtime::builder().name("http").executors(2).build()?;
    let mut service = runtime.serve(listen(std::env::args().nth(1))?, |connection| async {
        http1::Builder::new()
            .timer(Timer)
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(connection), service_fn(answer))
            .await
            .map_err(io::Error::other)
    })?;
    service.wait()?
}

/// `GET /` has a greeting, and `POST /echo` has its own body back as it comes.
async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let text = |text| Full::from(text).map_err(|never| match never {}).boxed();
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Response::new(text("Hello from an executor\n")),
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        _ => {
            let mut response = Response::new(text("There is no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

/// hyper's timer, by the timers of the executors.
#[derive(Clone, Copy)]
struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Alarm(sleep_until(deadline)))
    }
}

/// A sleep without its result. A sleep fails outside of coroutines only, and hyper runs in one.
struct Alarm(Sleep);

impl hyper::rt::Sleep for Alarm {}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}
