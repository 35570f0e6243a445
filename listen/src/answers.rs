//! Answers on their way: how much memory all of them may take, when nobody reads them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::seats::Busy;

/// What is handed to a connection at a time; smaller answers are not counted.
const PART: usize = 64 * 1024;

/// Bytes of large answers that were promised and not handed over yet.
pub(crate) struct Answers {
    most: usize,
    owed: AtomicUsize,
}

/// There is no room for this answer now.
#[derive(Debug)]
pub(crate) struct Full;

impl Answers {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, owed: AtomicUsize::new(0) }
    }

    /// Room for an answer; `None` for one that is small.
    pub(crate) fn promise(self: &Arc<Self>, size: usize) -> Result<Option<Owed>, Full> {
        if size <= PART {
            return Ok(None);
        }
        let room = |owed: usize| owed.checked_add(size).filter(|all| *all <= self.most);
        self.owed.fetch_update(Relaxed, Relaxed, room).map_err(|_| Full)?;
        Ok(Some(Owed { answers: Arc::clone(self), size }))
    }
}

/// Room that is given back when dropped.
pub(crate) struct Owed {
    answers: Arc<Answers>,
    size: usize,
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.answers.owed.fetch_sub(self.size, Relaxed);
    }
}

/// An answer's body, in parts. Until the last is taken its connection has something to answer, and its room is taken.
pub(crate) struct Held {
    body: Body,
    rest: Bytes,
    _busy: Busy,
    _owed: Option<Owed>,
}

impl Held {
    pub(crate) fn new(body: Body, busy: Busy, owed: Option<Owed>) -> Self {
        Self { body, rest: Bytes::new(), _busy: busy, _owed: owed }
    }

    pub(crate) fn small(body: Body, busy: Busy) -> Self {
        Self::new(body, busy, None)
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.len() > PART => self.rest = data,
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let part = PART.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
