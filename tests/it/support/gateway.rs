//! A gateway in the test's own process, started from config text as a user would write it.

use std::{net::SocketAddr, path::Path, time::Instant};

use http::Method;

use entrada::{Document, Server, ServerOptions};

use super::{Answer, wait::LONGEST_WAIT};

/// A running gateway.
pub(crate) struct Gateway {
    server: Option<Server>,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Gateway {
    /// Starts a gateway from the config, to which a listener on loopback is added. Waits until it is ready.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, ServerOptions { workers: 1, ..ServerOptions::default() }).await
    }

    /// Does the same with options.
    pub(crate) async fn start_with(config: &str, options: ServerOptions) -> Self {
        let document = Self::document(config);
        // Off the test's thread: a server waits for its own threads.
        let server = tokio::task::spawn_blocking(move || {
            Server::start(&document, options).unwrap_or_else(|error| panic!("{}", describe(&error)))
        })
        .await
        .unwrap();
        let address = server.address("public").unwrap();
        // One client a gateway, and no proxy that the environment names.
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let gateway = Self { server: Some(server), address, client };
        gateway.ready().await;
        gateway
    }

    /// Returns the report of a rejected config.
    pub(crate) fn refusal(config: &str) -> String {
        match Server::start(&Self::document(config), ServerOptions { workers: 1, ..ServerOptions::default() }) {
            Ok(_) => panic!("the config was taken:\n{config}"),
            Err(error) => describe(&error),
        }
    }

    fn document(config: &str) -> Document {
        let config = format!(
            "{config}\n{}{}{}",
            if config.contains("\naudit:") { "" } else { "audit: { sinks: [] }\n" },
            if config.contains("\nadmin:") { "" } else { "admin: { address: \"127.0.0.1:0\" }\n" },
            if config.contains("listeners:") { "" } else { "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\n" },
        );
        Document::from_text("test.yaml", &config).unwrap_or_else(|report| panic!("{report}"))
    }

    /// Switches to another config.
    pub(crate) async fn reload(&mut self, config: &str) {
        let document = Self::document(config);
        let mut server = self.server.take().unwrap();
        let server = tokio::task::spawn_blocking(move || {
            server.reload(&document).unwrap_or_else(|error| panic!("{}", describe(&error)));
            server
        });
        self.server = Some(server.await.unwrap());
    }

    /// Lets another config judge beside this one, if the gateway was started so. Returns the report of a faulty one.
    pub(crate) fn judge_beside(&self, config: &str) -> Result<(), String> {
        self.server().judge_beside(&Self::document(config)).map_err(|report| report.to_string())
    }

    /// Tries to switch to a config that is rejected; returns the error.
    pub(crate) async fn refused_reload(&mut self, config: &str) -> String {
        let document = Self::document(config);
        let mut server = self.server.take().unwrap();
        let server = tokio::task::spawn_blocking(move || {
            let error = server.reload(&document).expect_err("the config is not taken");
            (server, describe(&error))
        });
        let (server, error) = server.await.unwrap();
        self.server = Some(server);
        error
    }

    /// Stops the gateway, and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        }
    }

    async fn ready(&self) {
        let admin = self.server().health_address().unwrap_or_else(|| self.admin_address());
        let begun = Instant::now();
        loop {
            let answer = self.client.get(format!("http://{admin}/readyz")).send().await.unwrap();
            if answer.status().is_success() {
                return;
            }
            assert!(begun.elapsed() < LONGEST_WAIT, "never ready: {}", answer.text().await.unwrap_or_default());
            tokio::task::yield_now().await;
        }
    }

    /// Returns the server itself.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Returns the address for requests.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the admin listener.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.server().admin_address().unwrap()
    }

    /// Returns the newest audit record that satisfies the condition; waits for it, and fails if there is none.
    pub(crate) async fn record(&self, is_it: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let begun = Instant::now();
        loop {
            let records = self.records();
            if let Some(record) = records.iter().rev().find(|record| is_it(record)) {
                return record.clone();
            }
            assert!(begun.elapsed() < LONGEST_WAIT, "no such record: {records:#?}");
            tokio::task::yield_now().await;
        }
    }

    /// Returns the audit records so far.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        self.server().audit().recent().iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Returns the audit records so far, as they are written.
    pub(crate) fn written_records(&self) -> Vec<String> {
        self.server().audit().recent().iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    /// Returns the metrics in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> String {
        self.client.get(format!("http://{}/metrics", self.admin_address())).send().await.unwrap().text().await.unwrap()
    }

    /// Returns a GET request.
    pub(crate) fn get(&self, target: &str) -> Call {
        self.request(Method::GET, target)
    }

    /// Returns a request.
    pub(crate) fn request(&self, method: Method, target: &str) -> Call {
        Call(self.client.request(method, format!("http://{}{target}", self.address)))
    }
}

/// The variable that names a folder for the codes of refusals: those that a test's answers and records had.
pub(crate) const SEEN_CODES: &str = "ENTRADA_SEEN_CODES";

/// Notes a code that an answer or a record had, where the environment asks for it.
pub(crate) fn note_code(code: &str) {
    let Some(folder) = std::env::var_os(SEEN_CODES).filter(|_| !code.is_empty()) else { return };
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(Path::new(&folder).join(code), "");
}

/// Notes the codes of the records of a gateway that is about to end, those of report-only included.
fn note_codes(server: &Server) {
    if std::env::var_os(SEEN_CODES).is_none() {
        return;
    }
    for line in server.audit().recent() {
        let record: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
        let reported = record["would_deny"].as_array().into_iter().flatten().map(|entry| &entry["code"]);
        reported.chain([&record["code"]]).filter_map(serde_json::Value::as_str).for_each(note_code);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Stopping waits for the workers; not on a thread that drives the test's own connections.
        if let Some(server) = self.server.take() {
            note_codes(&server);
            std::thread::spawn(move || drop(server));
        }
    }
}

fn describe(error: &entrada::ServerError) -> String {
    match error {
        entrada::ServerError::Config(report) => report.to_string(),
        error => format!("{error:?}"),
    }
}

/// A request under construction.
pub(crate) struct Call(reqwest::RequestBuilder);

impl Call {
    /// Adds a bearer token.
    pub(crate) fn bearer(self, token: impl AsRef<str>) -> Self {
        Self(self.0.bearer_auth(token.as_ref()))
    }

    /// Adds a header field.
    pub(crate) fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    /// Sets the body.
    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it, and reads the whole response.
    pub(crate) async fn send(self) -> Answer {
        Answer::read(self.0.send().await.expect("the gateway answers")).await
    }
}
