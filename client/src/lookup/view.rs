//! What everybody is shown: policy, keys of the windows, and the manifest of the directory. Fetched anonymously, held against the log and
//! against what was seen before.

use postern_credentials::directory::{DirectoryError, manifest_digest, verify_manifest};
use postern_protocol::directory::{MANIFEST_PATH, Manifest, SignedManifest};
use postern_protocol::ids::{Base64, OprfPublicKey, Sha256Digest};
use postern_protocol::log::LogLeaf;
use postern_protocol::lookup::{LOOKUP_PATH, LookupInfo, LookupPolicy, WindowKey};
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;
use crate::register::Pins;

/// So long nothing is asked again, seconds: builds are hours apart.
const FRESH_FOR: u64 = 3600;
/// The most windows that can be open at one moment: the present one and the one before, and one for clocks that differ.
const MOST_WINDOWS: usize = 3;

/// What was seen last, checked; its row.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct View {
    info: LookupInfo,
    /// The manifest as served.
    manifest: Base64,
    at: u64,
}

impl Record for View {
    const KIND: &'static str = "lookup-view";
}

impl View {
    pub(super) const fn policy(&self) -> LookupPolicy {
        self.info.policy
    }

    pub(super) fn manifest(&self) -> Result<Manifest> {
        let signed = SignedManifest::decode(&self.manifest.0).map_err(|_| Error::ProfileDamaged("a manifest"))?;
        Ok(signed.manifest)
    }

    fn digest(&self) -> Sha256Digest {
        manifest_digest(&self.manifest.0)
    }

    /// The key of a window, if it is in force.
    pub(super) fn window_key(&self, window: u64) -> Option<OprfPublicKey> {
        self.info.keys.iter().find(|key| key.window == window).map(|key| key.key)
    }
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The view at hand while it is fresh and knows the present window, else a new one.
    pub(super) async fn view(&mut self) -> Result<View> {
        let now = self.now();
        let known = self.profile.get::<View>("")?.filter(|view| {
            let fresh = now.seconds() >= view.at && now.seconds() < view.at.saturating_add(FRESH_FOR);
            fresh && view.window_key(view.policy().window_at(now)).is_some()
        });
        match known {
            Some(view) => Ok(view),
            None => self.refresh_view().await,
        }
    }

    /// Looks at everything again: policy, keys and manifest first, the log's head after them, since nothing is shown that is not logged.
    pub(super) async fn refresh_view(&mut self) -> Result<View> {
        let pins = self.pins()?;
        let known = self.profile.get::<View>("")?;
        let (info, manifest) = self.fetch_view(&pins).await?;
        let (info, read) = check_view(info, &manifest, &pins)?;
        let token_keys = self.look_at_keys().await?;
        self.refresh_head().await?;
        let mut shown = vec![LogLeaf::Manifest(manifest.clone()), LogLeaf::TokenKeys(token_keys)];
        shown.extend(info.keys.iter().map(|key| LogLeaf::LookupKey(*key)));
        self.require_logged(&shown)?;
        let view = View { info, manifest: Base64(manifest), at: self.now().seconds() };
        let view = match known {
            Some(known) => follow(&known, view, &read)?,
            None => view,
        };
        self.profile.tx(&mut self.rng, |t| t.put("", &view))?;
        Ok(view)
    }

    async fn fetch_view(&mut self, pins: &Pins) -> Result<(LookupInfo, Vec<u8>)> {
        let info = self.send_anonymously(&Request::get(&pins.issuer_url, LOOKUP_PATH)?).await?.json()?;
        let manifest = self.send_anonymously(&Request::get(&pins.issuer_url, MANIFEST_PATH)?).await?.success()?;
        Ok((info, manifest))
    }
}

/// What can be said of one view by itself.
fn check_view(info: LookupInfo, manifest: &[u8], pins: &Pins) -> Result<(LookupInfo, Manifest)> {
    let manifest = verify_manifest(manifest, &pins.issuer_key).map_err(|error| match error {
        DirectoryError::BadSignature => {
            Error::PinChanged("the manifest of the directory is not signed by the issuer's pinned key")
        }
        _ => Error::Misbehaved("the manifest of its directory is malformed"),
    })?;
    if !info.policy.is_sound() || info.keys.is_empty() || info.keys.len() > MOST_WINDOWS {
        return Err(Error::Misbehaved("what it says about look-ups makes no sense"));
    }
    if info.oprf_epoch == manifest.oprf_epoch && info.oprf_key != manifest.oprf_key {
        return Err(Error::PinChanged("the issuer shows two look-up keys for one epoch"));
    }
    Ok((info, manifest))
}

/// What can be said of a view after the one before. The newer manifest of the two counts: caches may serve an older one for a while.
fn follow(known: &View, new: View, read: &Manifest) -> Result<View> {
    let before = known.manifest()?;
    let other_key = |key: &WindowKey| known.window_key(key.window).is_some_and(|old| old != key.key);
    if new.info.keys.iter().any(other_key) {
        return Err(Error::PinChanged("the issuer shows two keys for the look-up tokens of one time"));
    }
    if before.oprf_epoch == read.oprf_epoch && before.oprf_key != read.oprf_key {
        return Err(Error::PinChanged("the issuer shows two look-up keys for one epoch"));
    }
    let follows = match read.build {
        build if build == before.build => new.manifest == known.manifest,
        build if build == before.build.wrapping_add(1) => read.previous == known.digest(),
        _ => true,
    };
    if !follows {
        return Err(Error::PinChanged("the issuer shows two directories where there must be one"));
    }
    if read.build < before.build { Ok(View { manifest: known.manifest.clone(), ..new }) } else { Ok(new) }
}
