//! One fetch of a key set.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use url::Url;

use super::{Document, Endpoint, Engine, KeySet, status::Attempt};
use crate::{
    entra::{
        keys::{Keys, KeysFault},
        metadata::{Metadata, MetadataFault},
    },
    identity_http::{Call, IdentityHttpError},
};

/// The longest document that is read, in bytes. A thousand keys with their certificates are below it.
const MAX_BYTES: usize = 2 << 20;
/// The timeout of one call. A request may be waiting.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The scope of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchScope {
    /// Metadata, and the keys that it names.
    Everything,
    /// The keys only, if the metadata is known; otherwise everything.
    Keys,
}

/// The reason why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchFault {
    #[error(transparent)]
    Http(#[from] IdentityHttpError),
    #[error("{host} answered with status {status}")]
    Status { host: String, status: StatusCode },
    #[error(transparent)]
    Metadata(#[from] MetadataFault),
    #[error(transparent)]
    Keys(#[from] KeysFault),
}

/// The metadata of one endpoint, or the reason why there is none.
type Named = Result<Metadata, Arc<FetchFault>>;

impl FetchFault {
    /// Returns whether the authority stated that there is no such document. It is then asked again only with everything else.
    pub(crate) const fn is_absence(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, .. })
    }

    /// Returns whether there was an answer, though not the expected one.
    const fn was_answered(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Keys(_))
    }
}

impl KeySet {
    /// Fetches from all endpoints concurrently. A good answer replaces the previous document; a bad one leaves it in place.
    pub(super) async fn fetch(&self, engine: &Engine, extent: FetchScope) -> Vec<Option<Attempt>> {
        let endpoints = || self.source.endpoints.iter().enumerate();
        let mut named = Vec::new();
        for (index, endpoint) in endpoints() {
            let known = self.slots[index].document.load_full().map(|document| document.metadata.clone());
            named.push(async move {
                match known {
                    Some(metadata) if extent == FetchScope::Keys => Ok(metadata),
                    _ => read_metadata(engine, endpoint).await,
                }
            });
        }
        let named = both(named).await;
        let mut documents = self.documents(engine, &named).await;
        let gone = |(named, document): (&Named, &Result<_, Arc<FetchFault>>)| {
            named.is_ok() && document.as_ref().is_err_and(|fault| fault.was_answered())
        };
        if extent == FetchScope::Keys && named.iter().zip(&documents).any(gone) {
            // The keys may have moved, which the metadata alone tells. Where they have not, nothing is asked for twice.
            let anew = both(endpoints().map(|(_, endpoint)| read_metadata(engine, endpoint)).collect()).await;
            let moved = |pair: (&Named, &Named)| matches!(pair, (Ok(old), Ok(new)) if old.jwks_uri != new.jwks_uri);
            if named.iter().zip(&anew).any(moved) {
                documents = self.documents(engine, &anew).await;
            }
        }

        let mut attempts = Vec::new();
        for (index, read) in documents.into_iter().enumerate() {
            let at = engine.clock.monotonic();
            let fault = match read {
                Ok(document) => {
                    self.put(index, document, at);
                    None
                }
                Err(fault) => {
                    let (url, error) = (&self.source.endpoints[index].metadata, &*fault as &dyn std::error::Error);
                    if self.source.quiet {
                        tracing::debug!(%url, error, "signing keys could not be fetched");
                    } else {
                        tracing::warn!(%url, error, "signing keys could not be fetched");
                    }
                    Some(fault)
                }
            };
            attempts.push(Some(Attempt { at, fault }));
        }
        attempts
    }

    /// Fetches the keys that each metadata document names.
    async fn documents(&self, engine: &Engine, named: &[Named]) -> Vec<Result<Document, Arc<FetchFault>>> {
        // Both versions may name one place for their keys; it is asked once.
        let mut places: Vec<&Url> = named.iter().flatten().map(|metadata| &metadata.jwks_uri).collect();
        places.dedup();
        let bodies = both(places.iter().map(|url| get(engine, url)).collect()).await;

        let document = |metadata: &Named| {
            let metadata = metadata.as_ref().map_err(Arc::clone)?;
            let place = places.iter().position(|place| **place == metadata.jwks_uri);
            let body = place.and_then(|place| bodies.get(place)).map_or(Ok(Bytes::new()), Clone::clone)?;
            let keys = self.read_keys(&body, metadata).map_err(|fault| Arc::new(FetchFault::from(fault)))?;
            Ok(Document { metadata: metadata.clone(), keys })
        };
        named.iter().map(document).collect()
    }

    fn read_keys(&self, body: &[u8], metadata: &Metadata) -> Result<Keys, KeysFault> {
        let mut keys = Keys::read(body, self.source.algorithms)?;
        // A key for another cloud than the one that the metadata speaks for vouches for nobody here.
        keys.retain(|key| !matches!((&key.cloud, &metadata.cloud), (Some(own), Some(spoken)) if own != spoken));
        if keys.len() == 0 { Err(KeysFault::Empty) } else { Ok(keys) }
    }
}

async fn read_metadata(engine: &Engine, endpoint: &Endpoint) -> Named {
    let body = get(engine, &endpoint.metadata).await?;
    Metadata::read(&body, &endpoint.bounds).map_err(|fault| Arc::new(fault.into()))
}

/// Gets a document; the fault is shared by those that needed it.
async fn get(engine: &Engine, url: &Url) -> Result<Bytes, Arc<FetchFault>> {
    let answer = engine.http.send(Call::get(url, MAX_BYTES).within(TIMEOUT)).await.map_err(|fault| Arc::new(fault.into()))?;
    if answer.status != StatusCode::OK {
        let host = url.host_str().unwrap_or_default().to_owned();
        return Err(Arc::new(FetchFault::Status { host, status: answer.status }));
    }
    Ok(answer.body)
}

/// Runs one or two futures concurrently; there are never more endpoints.
async fn both<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures = futures.into_iter();
    let mut results = Vec::new();
    while let Some(first) = futures.next() {
        match futures.next() {
            Some(second) => results.extend(<[T; 2]>::from(tokio::join!(first, second))),
            None => results.push(first.await),
        }
    }
    results
}
