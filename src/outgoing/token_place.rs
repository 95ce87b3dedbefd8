//! Removal of tokens from the request that goes upstream.

use crate::{
    request::{TokenPlace, remove_folded},
    upstream::UpstreamRequest,
};

impl TokenPlace {
    /// Removes the token in this place from the upstream's request, in every spelling that a backend would take for it.
    pub(crate) fn clear(&self, outgoing: &mut UpstreamRequest) {
        match self {
            Self::Header(name) => remove_folded(&mut outgoing.headers, name),
            Self::Query(name) => {
                let Some(query) = &outgoing.query else { return };
                // Many backends look query parameters up without regard to case.
                let is_here =
                    |pair: &&str| url::form_urlencoded::parse(pair.as_bytes()).any(|(key, _)| key.eq_ignore_ascii_case(name));
                if query.split('&').any(|pair| is_here(&pair)) {
                    let rest: Vec<_> = query.split('&').filter(|pair| !is_here(pair)).collect();
                    outgoing.query = (!rest.is_empty()).then(|| rest.join("&").into());
                }
            }
        }
    }
}
