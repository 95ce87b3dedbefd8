//! An axum application that mounts the gateway beside routes of its own.
//!
//! ```text
//! entrada dev-tenant
//! cargo run --example mount -- examples/mount.yaml 127.0.0.1:8080
//! curl -i http://127.0.0.1:8080/version
//! curl -i http://127.0.0.1:8080/orders/1
//! ```

use std::{error::Error, net::SocketAddr, path::Path};

use axum::{Router, routing::get};
use entrada::{Gateway, ServerError};
use tokio::net::TcpListener;

/// The application: one route of its own, and the gateway for all others.
pub(crate) async fn application(config: &Path) -> Result<Router, ServerError> {
    let gateway = Gateway::open(config).await?;
    Ok(Router::new().route("/version", get(async || env!("CARGO_PKG_VERSION"))).fallback_service(gateway))
}

#[tokio::main]
#[allow(dead_code, reason = "a test runs the application without it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = arguments.next().unwrap_or_else(|| "examples/mount.yaml".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let application = application(Path::new(&config)).await?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    // The address of the peer reaches the gateway as axum's `ConnectInfo`.
    axum::serve(listener, application.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
