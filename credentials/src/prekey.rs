//! One-time prekeys: signed by the certified identity key, and sealed for everybody who has the card link.
//!
//! As with a card, the key of the seal is made from what the link says, so the relay that keeps the supply reads no key out of it, cannot
//! tell which first message was made with which, and cannot put a key of its own in the place of one: that is what the signature is for,
//! since everybody with the link can seal. A signature is good for one mailbox, and under its own label for nothing else.

use postern_protocol::card::CardLink;
use postern_protocol::ids::{DhPublicKey, MailboxId, ParseError, SealedPrekey, SigningPublicKey};
use postern_protocol::prekeys::Prekey;
use rand_core::CryptoRng;

use crate::identity::{self, IdentityKey};
use crate::seal::{OVERHEAD, SealKey};
use crate::transcript::{hkdf_expand, hkdf_extract};

const LABEL: &str = "postern/prekey/v1";

const _: () = assert!(SealedPrekey::LEN == Prekey::LEN + OVERHEAD);

/// It is no prekey of the link's owner for this mailbox. Says nothing about why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no prekey of the card's owner")]
pub struct NotTheirs;

/// Signs an Olm one-time key and seals it for everybody who has the link to `mailbox`.
///
/// # Errors
/// [`ParseError::Length`] never in practice: both lengths are fixed.
pub fn seal_prekey(
    rng: &mut impl CryptoRng,
    identity: &IdentityKey,
    mailbox: &MailboxId,
    key: DhPublicKey,
) -> Result<SealedPrekey, ParseError> {
    let signature = identity.sign(LABEL, &Prekey::signed_part(mailbox, &key));
    let plain = Prekey { key, signature }.encode();
    SealedPrekey::from_slice(&seal_key(&identity.public(), mailbox).seal(rng, LABEL.as_bytes(), &plain))
}

/// Opens what a claim brought, and checks that the link's owner signed it for this mailbox.
///
/// # Errors
/// [`NotTheirs`] if it is anything else.
pub fn open_prekey(link: &CardLink, sealed: &[u8]) -> Result<DhPublicKey, NotTheirs> {
    let plain = seal_key(&link.identity, &link.mailbox).open(LABEL.as_bytes(), sealed).map_err(|_| NotTheirs)?;
    let Prekey { key, signature } = Prekey::decode(&plain).map_err(|_| NotTheirs)?;
    let signed = Prekey::signed_part(&link.mailbox, &key);
    identity::verify(&link.identity, LABEL, &signed, &signature).map_err(|_| NotTheirs)?;
    Ok(key)
}

/// HKDF-SHA-256 of the identity key, info = label ‖ mailbox.
fn seal_key(identity: &SigningPublicKey, mailbox: &MailboxId) -> SealKey {
    let prk = hkdf_extract(&[0; 32], &[identity.as_bytes()]);
    SealKey::new(*hkdf_expand(&prk, &[LABEL.as_bytes(), mailbox.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use postern_protocol::ids::Signature;

    use super::*;
    use crate::testing::rng;

    const MAILBOX: MailboxId = MailboxId([2; 32]);
    const KEY: DhPublicKey = DhPublicKey([5; 32]);

    fn owner() -> IdentityKey {
        IdentityKey::from_seed([2; 32])
    }

    fn link() -> CardLink {
        CardLink { relay_url: "https://relay.example".into(), mailbox: MAILBOX, identity: owner().public() }
    }

    fn sealed() -> SealedPrekey {
        seal_prekey(&mut rng(), &owner(), &MAILBOX, KEY).unwrap()
    }

    /// Whatever anybody with the link can seal.
    fn seal_under(link: &CardLink, plain: &[u8]) -> Vec<u8> {
        seal_key(&link.identity, &link.mailbox).seal(&mut rng(), LABEL.as_bytes(), plain)
    }

    fn signed_as(by: &IdentityKey, label: &str, mailbox: &MailboxId) -> Vec<u8> {
        let signature = by.sign(label, &Prekey::signed_part(mailbox, &KEY));
        seal_under(&link(), &Prekey { key: KEY, signature }.encode())
    }

    #[test]
    fn who_has_the_link_opens_a_prekey_and_it_is_the_owner_s() {
        assert_eq!(open_prekey(&link(), sealed().as_bytes()), Ok(KEY));
        assert_eq!(open_prekey(&link(), &signed_as(&owner(), LABEL, &MAILBOX)), Ok(KEY));
    }

    #[test]
    fn every_flipped_bit_truncation_and_addition_is_refused() {
        let sealed = sealed().0;
        for n in 0..sealed.len() {
            for bit in 0..8 {
                let mut bad = sealed;
                bad[n] ^= 1 << bit;
                assert_eq!(open_prekey(&link(), &bad), Err(NotTheirs), "bit {bit} of byte {n}");
            }
            assert_eq!(open_prekey(&link(), &sealed[..n]), Err(NotTheirs), "cut to {n}");
        }
        assert_eq!(open_prekey(&link(), &[&sealed[..], &[0]].concat()), Err(NotTheirs));
    }

    #[test]
    fn a_link_with_another_identity_or_mailbox_opens_nothing() {
        let other = IdentityKey::from_seed([3; 32]).public();
        for link in [CardLink { identity: other, ..link() }, CardLink { mailbox: MailboxId([3; 32]), ..link() }] {
            assert_eq!(open_prekey(&link, sealed().as_bytes()), Err(NotTheirs));
        }
    }

    #[test]
    fn who_has_the_link_can_seal_but_not_sign() {
        let mallory = IdentityKey::from_seed([3; 32]);
        assert_eq!(open_prekey(&link(), &signed_as(&mallory, LABEL, &MAILBOX)), Err(NotTheirs));
        let unsigned = Prekey { key: KEY, signature: Signature([0; 64]) }.encode();
        assert_eq!(open_prekey(&link(), &seal_under(&link(), &unsigned)), Err(NotTheirs));
        // Another key in the place of the signed one.
        let signature = owner().sign(LABEL, &Prekey::signed_part(&MAILBOX, &KEY));
        let swapped = Prekey { key: DhPublicKey([6; 32]), signature }.encode();
        assert_eq!(open_prekey(&link(), &seal_under(&link(), &swapped)), Err(NotTheirs));
    }

    #[test]
    fn a_signature_for_another_mailbox_or_under_another_label_is_refused() {
        assert_eq!(open_prekey(&link(), &signed_as(&owner(), LABEL, &MailboxId([3; 32]))), Err(NotTheirs));
        assert_eq!(open_prekey(&link(), &signed_as(&owner(), "postern/card/v1", &MAILBOX)), Err(NotTheirs));
        // Nor is what was sealed as a card opened as a prekey.
        let plain = Prekey { key: KEY, signature: owner().sign(LABEL, &Prekey::signed_part(&MAILBOX, &KEY)) }.encode();
        let key = seal_key(&owner().public(), &MAILBOX);
        let sealed = key.seal(&mut rng(), b"postern/card/v1", &plain);
        assert_eq!(open_prekey(&link(), &sealed), Err(NotTheirs));
    }

    #[test]
    fn two_seals_of_one_key_have_nothing_in_common_that_the_relay_sees() {
        let mut rng = rng();
        let mut seal = || seal_prekey(&mut rng, &owner(), &MAILBOX, KEY).unwrap().0;
        let (first, second) = (seal(), seal());
        let windows: std::collections::HashSet<&[u8]> = first.windows(8).collect();
        assert!(second.windows(8).all(|window| !windows.contains(window)));
        assert!(first.windows(8).all(|window| !KEY.as_bytes().windows(8).any(|part| part == window)));
    }
}
