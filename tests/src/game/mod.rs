//! The linkability games (design §10.3): something is done in secret on real servers, a program that has everything that they ever saw
//! says for each candidate how likely it was, and statistics say whether it knows anything.
//!
//! | file | what |
//! |---|---|
//! | `capture` | every request and answer with time, order and connection; logs at trace level; every row with its rowid |
//! | `servers` | issuer and relay in this process behind the recorder, on copies of one prepared pair of databases |
//! | `people` | a thousand accounts that asked for look-up tokens, in random order |
//! | `lookups` | one look-up as the client does it, or with one leak |
//! | `evidence` | what the adversary has of one look-up, and what it can compute about the candidates |
//! | `distinguishers` | the adversary: one score for each candidate, in many ways |
//! | `events` | what people do there, and what a client can do wrong |
//! | `players` | a world of people who register, send, judge, exchange and reply, each phase in an order by lot; or with one slip |
//! | `linking` | the adversary who says which of two things belongs to a third, in many ways and by one that is learned |
//! | `linkability` | the game of it: rounds, intervals, which slip is seen by which way |
//! | `report` | what the binary `linkability` prints |
//! | `timing` | what time says, by the client's policy of delays and the number of people |
//! | `statistics` | ranks, advantage, intervals |
//!
//! Everything is seeded and the clock stands still unless it is moved, so a game goes the same way each time.

pub mod capture;
pub mod distinguishers;
pub mod events;
pub mod evidence;
pub mod linkability;
pub mod linking;
pub mod lookups;
pub mod people;
pub mod players;
pub mod report;
pub mod servers;
pub mod statistics;
pub mod timing;
