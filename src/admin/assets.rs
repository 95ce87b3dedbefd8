//! The files of the console, which are in the program.

use axum::{Router, http::header, routing::get};

use super::Admin;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// The path of each file, its type and its text.
macro_rules! files {
    ($($path:literal $kind:ident $file:literal),* $(,)?) => {
        &[$(($path, $kind, include_str!(concat!("console/", $file)))),*]
    };
}

const FILES: &[(&str, &str, &str)] = files![
    "/" HTML "index.html",
    "/console.css" CSS "console.css",
    "/icon.svg" IMAGE "icon.svg",
    "/app.js" SCRIPT "app.js",
    "/api.js" SCRIPT "api.js",
    "/config.js" SCRIPT "config.js",
    "/decisions.js" SCRIPT "decisions.js",
    "/dom.js" SCRIPT "dom.js",
    "/extra.js" SCRIPT "extra.js",
    "/format.js" SCRIPT "format.js",
    "/inventory.js" SCRIPT "inventory.js",
    "/overview.js" SCRIPT "overview.js",
    "/record.js" SCRIPT "record.js",
    "/routes.js" SCRIPT "routes.js",
];

/// Returns the paths of the files.
pub(super) fn routes() -> Router<Admin> {
    let add = |router: Router<Admin>, (path, kind, text): &(&'static str, &'static str, &'static str)| {
        let (kind, text) = (*kind, *text);
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }))
    };
    FILES.iter().fold(Router::new(), add)
}

/// Returns whether a path is one of the files, which say nothing of the gateway.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|(own, ..)| *own == path)
}
