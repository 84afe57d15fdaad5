// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//! A TLS server by rustls, whose connections live on flexnet's executors. It sends back what it
//! gets: `tls_server CERTIFICATE.pem KEY.pem [ADDRESS]`, then `openssl s_client -connect ADDRESS`.
//!
//! [`TlsAcceptor`] is written for tokio's traits, which a connection has. There is no tokio
//! runtime.

use flexnet::coroutine::timeout;
use flexnet::executor::Runtime;
use flexnet::transport::TcpConnection;
use flexnet_examples::listen;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// A client that has not shaken hands by then is left.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(certificate), Some(key)) = (arguments.next(), arguments.next()) else {
        let usage = "usage: tls_server CERTIFICATE.pem KEY.pem [ADDRESS]";
        return Err(io::Error::other(usage));
    };
    let acceptor = TlsAcceptor::from(Arc::new(configuration(&certificate, &key)?));
    let runtime = Runtime::builder().name("tls").executors(2).build()?;
    let listener = listen(arguments.next())?;
    let mut service = runtime.serve(listener, move |connection| {
        echo(connection, acceptor.clone())
    })?;
    service.wait()?
}

/// What the server shows of itself.
fn configuration(certificate: &str, key: &str) -> io::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
    let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)
}

/// The coroutine of one connection.
async fn echo(connection: TcpConnection, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection)).await??;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
        // rustls has what a full socket did not take, and reading would not send it.
        stream.flush().await?;
    }
}
