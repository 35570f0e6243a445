//! What the process writes into its own log about look-ups.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod world;

use std::sync::{Arc, Mutex};

use postern_protocol::lookup::LOOKUP_PATH;
use world::World;
use world::lookups::{logged_in, number};

/// What the process logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_process_s_own_log_says_that_there_was_a_look_up_and_nothing_of_it() {
    let world = World::new().await;
    let (_, jwt) = logged_in(&world, 1).await;
    let asked = world.ask(&world.lookup_tokens(&jwt, 1).await, &[number(77)]);
    let lines = Lines::default();
    let writer = lines.clone();
    // For all threads, which is why this test is alone in its process.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let reply = world.look_up(&asked.request).await;
    let mut forged = asked.request.clone();
    forged.tokens[0].0[161] ^= 1;
    world.look_up(&forged).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains(LOOKUP_PATH) && text.contains("403"), "{text}");
    let answer: postern_protocol::lookup::LookupResponse = reply.json();
    let secrets = [
        asked.request.tokens[0].to_string(),
        asked.request.blinded[0].to_string(),
        answer.evaluated[0].to_string(),
        number(77).as_str().to_owned(),
    ];
    for secret in &secrets {
        assert!(!text.contains(&secret[4..20.min(secret.len())]), "{text}");
    }
}
