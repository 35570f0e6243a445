//! Pure cryptography of Postern: no I/O, no clock, no OS randomness.

mod aws_lc;
pub mod blind_token;
