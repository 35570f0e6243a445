//! A stream whose other end must read at some pace: an answer that nobody reads is memory that somebody else needs.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::seats::Watch;

/// What must be read within the time, bytes, if there is so much.
const PACE: usize = 64 * 1024;

/// A stream that ends when it is read too slowly.
pub(crate) struct Paced<S> {
    stream: S,
    watch: Watch,
    most: Duration,
    /// Since the other end kept us waiting: until when, and how much it has read.
    waited: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, watch: Watch, most: Duration) -> Self {
        Self { stream, watch, most, waited: None }
    }

    fn written(&mut self, result: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        match result {
            Poll::Ready(Ok(n)) => {
                if let Some((until, read)) = &mut self.waited {
                    *read = read.saturating_add(n);
                    // Past its time it was not waited for at all: what had to be written was, before.
                    if *read >= PACE || until.deadline() <= Instant::now() {
                        self.waited = None;
                    }
                }
                self.watch.touch();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (until, _) = self.waited.get_or_insert_with(|| (Box::pin(tokio::time::sleep(self.most)), 0));
                ready!(until.as_mut().poll(cx));
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the answer is read too slowly")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
