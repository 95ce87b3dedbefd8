//! An axum application behind the routes and policies of a config.
//!
//! ```text
//! entrada dev-tenant
//! cargo run --example authorize -- examples/authorize.yaml 127.0.0.1:8080
//! curl -i http://127.0.0.1:8080/orders/1
//! ```

use std::{error::Error, net::SocketAddr, path::Path};

use axum::{Extension, Router, extract, routing::get};
use entrada::{AuthorizeLayer, Caller, ServerError, Token};
use tokio::net::TcpListener;
use tower::Layer as _;

/// The application: its handlers run only for requests that the config lets through.
pub(crate) async fn application(config: &Path) -> Result<Router, ServerError> {
    let orders = Router::new().route("/orders/{id}", get(order));
    // Around the whole router, so that no path leads past the policies.
    Ok(Router::new().fallback_service(AuthorizeLayer::open(config).await?.layer(orders)))
}

/// Responds with the facts that the gateway established.
async fn order(
    extract::Path(id): extract::Path<String>,
    Extension(token): Extension<Token>,
    Extension(caller): Extension<Caller>,
) -> String {
    let user = token.object_id().unwrap_or("nobody");
    format!("order {id} for {user} from {} by the route {}\n", caller.address(), caller.route())
}

#[tokio::main]
#[allow(dead_code, reason = "a test runs the application without it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = arguments.next().unwrap_or_else(|| "examples/authorize.yaml".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let application = application(Path::new(&config)).await?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/orders/1", listener.local_addr()?);
    // The address of the peer reaches the policies as axum's `ConnectInfo`.
    axum::serve(listener, application.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
