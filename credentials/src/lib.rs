//! Pure cryptography of Postern: no I/O, no clock, no OS randomness.
//!
//! **Owns** every key, signature, tag, seal and certificate: how they are made, checked, and what exactly they cover.
//! **May call** `postern-protocol` only. Randomness and the present come in as arguments, so that tests are exact.
//!
//! Start with the module of the thing you look for; each says who plays which role and what nobody can learn:
//! [`blind_token`] (the stamps), [`phone_code`] and [`certificate`] (registration), [`login_chain`], [`session`] and [`jwt`]
//! (login), [`relay_call`] (relay ↔ issuer), [`envelope`], [`card`], [`prekey`] and [`reply_credential`] (messages). [`secrets`],
//! [`seal`] and [`identity`] carry the rest.
//! Contact discovery is [`lookup_token`] (what pays), [`oprf`] (the number, blinded), [`directory`] and [`key_log`].
//!
//! Every hash, tag and signature begins with a versioned label of its own and covers length-prefixed fields, so that
//! nothing made for one purpose can be read as something else.

mod aws_lc;
pub mod blind_token;
pub mod card;
pub mod certificate;
pub mod directory;
pub mod envelope;
mod hash_tree;
pub mod identity;
pub mod jwt;
pub mod key_log;
pub mod login_chain;
pub mod lookup_token;
pub mod oprf;
pub mod phone_code;
pub mod prekey;
pub mod relay_call;
pub mod reply_credential;
pub mod seal;
pub mod secrets;
pub mod session;
#[cfg(test)]
mod testing;
mod transcript;
