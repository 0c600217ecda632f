//! Metrics and health over HTTP.
//!
//! In: a registry of metrics, and whether the tracer is ready. Out: `/metrics` for Prometheus,
//! `/livez` and `/readyz` for whoever supervises us, `/` for people.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const INDEX: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tracer</title></head><body>
<h1>tracer</h1>
<ul>
<li><a href=\"/metrics\">Metrics</a></li>
<li><a href=\"/livez\">Is it alive?</a></li>
<li><a href=\"/readyz\">Is it ready?</a></li>
</ul>
</body></html>
";

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for metrics: {source}; choose another address by --metrics-listen, or `off`"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Why the tracer is not ready; `None` if it is. Held by the run loop.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Option<String>>);

impl Readiness {
    /// From now on it is ready.
    pub fn ready(&self) {
        self.0.send_replace(None);
    }

    /// From now on it is not, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.0.send_replace(Some(reason.into()));
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    readiness: Readiness,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Clone)]
struct Served {
    registry: Registry,
    readiness: watch::Receiver<Option<String>>,
}

/// Listens on an address that is free. Bound before anything else begins, so that a tracer whose
/// address is taken fails without a trace.
#[derive(Debug)]
pub struct Bound(std::net::TcpListener, SocketAddr);

impl Bound {
    /// Takes the address.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self(listener, address))
        };
        bind().map_err(|source| BindError { address, source })
    }

    /// Serves from now on; not ready at first. Needs a tokio runtime.
    pub fn serve(self, registry: Registry) -> Result<Server, BindError> {
        let Self(listener, address) = self;
        let listener =
            TcpListener::from_std(listener).map_err(|source| BindError { address, source })?;
        let (readiness, is_ready) = watch::channel(Some("starting".to_owned()));
        let (stop, mut stopped) = watch::channel(false);
        let router = router(Served {
            registry,
            readiness: is_ready,
        });
        let stopped = async move {
            // An error is a server that was dropped, which stops it too.
            let _ = stopped.wait_for(|&stop| stop).await;
        };
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
        let task = tokio::spawn(serving.into_future());
        Ok(Server {
            address,
            readiness: Readiness(readiness),
            stop,
            task,
        })
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/readyz` tells.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Answers what has been asked, at most until `limit` has passed, and stops.
    pub async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn router(served: Served) -> Router {
    Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(served))
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    match TextEncoder::new().encode_to_string(&served.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(served): State<Arc<Served>>) -> Response {
    match served.readiness.borrow().as_deref() {
        None => "ready\n".into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    fn loopback() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    /// Asks from another thread, as the server needs this one.
    async fn ask(address: SocketAddr, path: &'static str) -> String {
        let ask = move || {
            let mut stream = TcpStream::connect(address)?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )?;
            io::read_to_string(stream)
        };
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    #[test]
    fn health_and_metrics_are_served_until_it_stops() {
        block_on(async {
            let server = Bound::bind(loopback())
                .unwrap()
                .serve(Registry::new())
                .unwrap();
            let address = server.address();
            let response = ask(address, "/readyz").await;
            assert!(response.starts_with("HTTP/1.1 503") && response.ends_with("starting\n"));
            server.readiness().ready();
            for path in ["/", "/livez", "/readyz", "/metrics"] {
                let response = ask(address, path).await;
                assert!(response.starts_with("HTTP/1.1 200"), "{path}: {response}");
            }
            assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
            server.stop(LIMIT).await;
            assert!(TcpStream::connect(address).is_err());
        });
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = Bound::bind(loopback()).unwrap();
        let error = Bound::bind(taken.1).unwrap_err().to_string();
        assert!(
            error.contains(&taken.1.to_string()) && error.contains("in use"),
            "{error}"
        );
    }
}
