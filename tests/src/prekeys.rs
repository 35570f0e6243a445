//! One-time prekeys by hand: to the relay they are any 138 bytes.

use postern_protocol::ids::{MailboxId, PrekeyClaim, SealedPrekey};
use postern_protocol::login::JwtAudience;
use postern_protocol::prekeys::{OWN_PREKEYS_PATH, PrekeyUpload, claim_path};
use rand_core::Rng;

use crate::actor::Actor;
use crate::http::Reply;

impl Actor {
    /// An upload of prekeys that nobody has the private half of.
    pub fn draw_prekeys(&mut self, batch: u64, n: usize) -> PrekeyUpload {
        let mut prekeys = vec![SealedPrekey([0; 138]); n];
        prekeys.iter_mut().for_each(|prekey| self.rng.fill_bytes(&mut prekey.0));
        PrekeyUpload { batch, prekeys }
    }

    /// Adds to the own supply.
    pub async fn upload_prekeys(&mut self, upload: &PrekeyUpload) -> Reply {
        let jwt = self.jwt(JwtAudience::Relay).await;
        let request = self.http.put(self.relay(OWN_PREKEYS_PATH)).bearer_auth(jwt);
        self.ask(request.header("content-type", "application/octet-stream").body(upload.encode())).await
    }

    /// A fresh claim.
    pub fn draw_claim(&mut self) -> PrekeyClaim {
        let mut claim = [0; 32];
        self.rng.fill_bytes(&mut claim);
        PrekeyClaim(claim)
    }

    /// What a claim gets; `None` when the supply is used up.
    pub async fn claim_prekey(&self, of: &MailboxId, claim: &PrekeyClaim) -> Option<SealedPrekey> {
        let request = self.http.post(self.relay(&claim_path(of))).header("content-type", "application/octet-stream");
        let reply = self.ask(request.body(claim.0.to_vec())).await;
        match reply.status {
            200 => Some(SealedPrekey::from_slice(&reply.body).unwrap()),
            204 => None,
            other => panic!("{other}: {}", String::from_utf8_lossy(&reply.body)),
        }
    }
}
