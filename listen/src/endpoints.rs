//! One endpoint's share of the requests that are handled at a time: a flood of one leaves room for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// A bound for each route. There are as many as there are routes: what has no route has no handler.
#[derive(Debug)]
pub struct Endpoints {
    each: usize,
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Endpoints {
    /// At most `each` requests to one route at a time.
    pub fn new(each: usize) -> Self {
        Self { each: each.min(Semaphore::MAX_PERMITS), permits: Mutex::default() }
    }

    /// The permits of a route, as the router names it.
    pub fn of(&self, route: &str) -> Arc<Semaphore> {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = permits.get(route) {
            return Arc::clone(found);
        }
        let made = Arc::new(Semaphore::new(self.each));
        permits.insert(route.to_owned(), Arc::clone(&made));
        made
    }
}
