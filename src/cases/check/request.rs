//! The check of requests, their tokens, and the upstream's responses.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{Checker, FileContext};
use crate::{
    cases::token::{WantedToken, resolve},
    config::test_case::{TestAnswerConfig, TestRequestConfig, TestTokenConfig, TestTokenKind, TestTokenUseConfig},
    offline::OfflineRequest,
    settings::{Faults, Place, suggest},
};

impl Checker<'_> {
    /// Builds the request, without its tokens.
    pub(super) fn request(
        &self,
        written: &TestRequestConfig,
        file: &FileContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<OfflineRequest> {
        let from = written.from.as_deref().map_or(file.from, |text| self.from(Some(text), &place.key("from"), faults));
        let method = written.method.as_deref().unwrap_or("GET");
        let mut request = match OfflineRequest::new(method, &written.url, from) {
            Ok(request) => request,
            Err(fault) => {
                let cure = "write the whole URL, as https://api.contoso.example/orders/17";
                faults.error(&place.key("url"), fault.to_string(), cure);
                return None;
            }
        };
        if let Some(name) = &written.listener {
            let names = self.config.listeners.iter().map(|listener| listener.name.as_str());
            if !names.clone().any(|own| own == name) {
                let cure = suggest::known(name, names, "defined are").unwrap_or_else(|| "none is defined".to_owned());
                faults.error(&place.key("listener"), format!("there is no listener `{name}`"), cure);
            }
            request.listener = Some(name.clone());
        }
        for (name, values) in &written.headers {
            let place = place.key("headers").key(name);
            if name.eq_ignore_ascii_case("host") {
                faults.error(&place, "`Host` is that of the URL", "write the host into `url`");
            }
            if name.eq_ignore_ascii_case("authorization") && written.token.is_some() {
                faults.error(&place, "`token` and this field are two tokens in one place", "write one of the two");
            }
            for value in values.as_slice() {
                request.header(name, value.as_str());
            }
        }
        if let Some(body) = &written.body {
            request.body = Bytes::from(body.clone());
        }
        if let Some(path) = &written.certificate {
            request.certificates = certificates(&file.base.join(path), &place.key("certificate"), faults);
        }
        Some(request)
    }

    /// Builds the upstream's response.
    pub(super) fn answer(&self, written: &TestAnswerConfig, place: &Place, faults: &mut Faults) -> Response<Bytes> {
        let mut response = Response::new(written.body.clone().map_or_else(Bytes::new, Bytes::from));
        match written.status.map(StatusCode::from_u16) {
            Some(Ok(status)) if status.is_informational() => {
                faults.error(&place.key("status"), "an informational response is no answer", "write 200 to 599");
            }
            Some(Ok(status)) => *response.status_mut() = status,
            Some(Err(_)) => faults.error(&place.key("status"), "this is no status", "write 200 to 599"),
            None => {}
        }
        for (name, values) in &written.headers {
            let place = place.key("headers").key(name);
            for value in values.as_slice() {
                match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                    (Ok(name), Ok(value)) => _ = response.headers_mut().append(name, value),
                    (Err(_), _) => {
                        faults.error(&place, format!("`{name}` is not a header's name"), "names have letters, digits and `-`")
                    }
                    (_, Err(_)) => faults.error(&place, "this cannot be the value of a header", "write it on one line"),
                }
            }
        }
        response
    }

    /// Returns the tokens of a request, by the field that holds them.
    pub(super) fn tokens_of(
        &self,
        written: &TestRequestConfig,
        file: &FileContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Vec<(HeaderName, WantedToken)> {
        let mut tokens = Vec::new();
        if let Some(token) = &written.token {
            let token = self.use_of(token, file, &place.key("token"), faults);
            tokens.extend(token.map(|token| (header::AUTHORIZATION, token)));
        }
        for (name, token) in &written.tokens {
            let place = place.key("tokens").key(name);
            let token = self.use_of(token, file, &place, faults);
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if name == header::AUTHORIZATION && written.token.is_some() => {
                    faults.error(&place, "`token` and this are two tokens in one place", "write one of the two");
                }
                Ok(name) => tokens.extend(token.map(|token| (name, token))),
                Err(_) => faults.error(&place, format!("`{name}` is not a header's name"), "names have letters, digits and `-`"),
            }
        }
        tokens
    }

    fn use_of(
        &self,
        written: &TestTokenUseConfig,
        file: &FileContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<WantedToken> {
        let name = match written {
            TestTokenUseConfig::Token(token) => return self.token(token, file, place, faults),
            TestTokenUseConfig::Name(name) => name,
        };
        let Some(tokens) = file.tokens else {
            let cure =
                "write the token out, as `token: { kind: app, … }`, or move the case to a file `*.test.yaml`, which has `tokens`";
            faults.error(place, format!("`{name}`: a config names no tokens"), cure);
            return None;
        };
        let Some(token) = tokens.get(name) else {
            faults.error(place, format!("there is no token `{name}`"), defined(name, file));
            return None;
        };
        self.token(token, file, place, faults)
    }

    /// Checks a token: the tokens that it is like, and the names that it refers to.
    pub(super) fn token(
        &self,
        written: &TestTokenConfig,
        file: &FileContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<WantedToken> {
        let token = match resolve(written, file.tokens) {
            Ok(token) => token,
            Err(name) => {
                let cure = defined(&name, file);
                faults.error(&place.key("like"), format!("there is no token `{name}`, or it is like itself"), cure);
                return None;
            }
        };
        let tenants: Vec<&str> = self.config.tenants.keys().map(String::as_str).collect();
        let issuers: Vec<&str> = self.config.issuers.keys().map(String::as_str).collect();
        let unknown = |name: &str, known: &[&str]| {
            suggest::known(name, known.iter().copied(), "defined are").unwrap_or_else(|| "none is defined".to_owned())
        };
        match (&token.tenant, &token.issuer) {
            (Some(_), Some(_)) => {
                faults.error(place, "a token has either a `tenant` of Entra or another `issuer`", "write one of the two");
            }
            (Some(tenant), None) if !tenants.contains(&tenant.as_str()) && uuid::Uuid::try_parse(tenant).is_err() => {
                let cure = format!("{}, or write a GUID", unknown(tenant, &tenants));
                faults.error(&place.key("tenant"), format!("there is no tenant `{tenant}`"), cure);
            }
            (None, Some(issuer)) if !issuers.contains(&issuer.as_str()) => {
                faults.error(&place.key("issuer"), format!("there is no issuer `{issuer}`"), unknown(issuer, &issuers));
            }
            (None, None) if tenants.is_empty() && token.text.is_none() => {
                let cure = "write the `issuer`: a name of the config's `issuers`";
                faults.error(place, "the config has no tenant whose token this could be", cure);
            }
            _ => {}
        }
        if token.kind == Some(TestTokenKind::App) && token.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) {
            let cure = "write `roles`, or `claims: { scp: … }` for a token that Entra would not issue";
            faults.error(place, "an application's own token has roles, and never scopes", cure);
        }
        if token.kind == Some(TestTokenKind::App) && token.user.is_some() {
            faults.error(place, "an application's own token has no user", "write `client`");
        }
        Some(WantedToken::new(token, file.now))
    }
}

fn defined(name: &str, file: &FileContext<'_>) -> String {
    let names = file.tokens.into_iter().flatten().map(|(name, _)| name.as_str());
    suggest::known(name, names, "defined are").unwrap_or_else(|| "define it below `tokens`".to_owned())
}

/// Reads a chain of certificates, the client's own first.
fn certificates(path: &std::path::Path, place: &Place, faults: &mut Faults) -> Vec<CertificateDer<'static>> {
    let cure = "name a PEM file with the client's certificate, relative to the file of the case";
    let read = std::fs::read(path).map_err(|error| error.to_string());
    let chain = read.and_then(|text| {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        chain.map_err(|error| error.to_string())
    });
    match chain {
        Ok(chain) if !chain.is_empty() => return chain,
        Ok(_) => faults.error(place, "the file holds no certificate", cure),
        Err(error) => faults.error(place, format!("the certificate cannot be read: {error}"), cure),
    }
    Vec::new()
}
