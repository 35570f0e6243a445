use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;

fn for_seconds(seconds: u64) -> Limit {
    Limit { duration: Some(Duration::from_secs(seconds)), count: None }
}

fn times(count: u64) -> Limit {
    Limit { duration: None, count: Some(count) }
}

fn open_loop(per_second: f64, most_outstanding: usize) -> Pace {
    Pace::Open { per_second, most_outstanding }
}

/// Under tokio's paused clock, which only tokio's timer follows.
async fn run_paused<W, F>(pace: Pace, limit: Limit, stop: &Stop, work: W) -> (Ran, Arc<Recorder>)
where
    W: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let recorder = Arc::new(Recorder::default());
    let ran = run_by(Alarm(None), pace, limit, stop, &recorder, "work", work).await;
    (ran, recorder)
}

async fn takes(duration: Duration) -> Outcome {
    tokio::time::sleep(duration).await;
    Outcome::Done(200)
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_keeps_exactly_so_many_in_flight() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_flight, seen) = (Arc::clone(&now), Arc::clone(&most));
    let work = move |_| {
        let (in_flight, seen) = (Arc::clone(&in_flight), Arc::clone(&seen));
        async move {
            seen.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let outcome = takes(Duration::from_millis(10)).await;
            in_flight.fetch_sub(1, Ordering::SeqCst);
            outcome
        }
    };
    let (ran, recorder) = run_paused(Pace::Closed { in_flight: 8 }, for_seconds(1), &Stop::default(), work).await;
    assert_eq!((most.load(Ordering::SeqCst), now.load(Ordering::SeqCst)), (8, 0));
    // 8 at a time, 10 ms each (11 by tokio's timer at the worst), for a second.
    assert!((700..=800).contains(&ran.ended), "{ran:?}");
    assert_eq!(recorder.report(ran.elapsed)["work"].done, ran.ended);
}

#[tokio::test(start_paused = true)]
async fn each_number_is_worked_on_once_and_the_count_is_kept() {
    for pace in [Pace::Closed { in_flight: 7 }, open_loop(500.0, 100)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let work = move |number| {
            into.lock().unwrap().push(number);
            takes(Duration::from_millis(3))
        };
        let (ran, _) = run_paused(pace, times(101), &Stop::default(), work).await;
        assert_eq!((ran.started, ran.ended, ran.not_started), (101, 101, 0));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..101).collect::<Vec<u64>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_starts_as_many_as_are_due_however_coarse_the_timer_is() {
    let (ran, recorder) =
        run_paused(open_loop(5000.0, 1000), for_seconds(2), &Stop::default(), |_| takes(Duration::from_millis(5)))
            .await;
    assert_eq!((ran.started, ran.ended, ran.not_started), (10_000, 10_000, 0));
    assert!(ran.elapsed < Duration::from_millis(2020), "{ran:?}");
    // Counted from when it was due: the timer's millisecond is part of it, more is not.
    assert!(ran.latest_start <= Duration::from_millis(2), "{ran:?}");
    assert!(recorder.report(ran.elapsed)["work"].latency_us.max <= 8_000.0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stalls_is_charged_for_everybody_who_would_have_come_meanwhile() {
    // One server, one request at a time, 1 ms each; it stands still for a whole second in the middle.
    let server = Arc::new(tokio::sync::Mutex::new(()));
    let work = move |number| {
        let server = Arc::clone(&server);
        async move {
            let _turn = server.lock().await;
            takes(Duration::from_millis(if number == 500 { 1000 } else { 1 })).await
        }
    };
    let stop = Stop::default();
    let (ran, recorder) = run_paused(open_loop(100.0, 10_000), for_seconds(10), &stop, work.clone()).await;
    assert_eq!(ran.ended, 1000);
    let open = recorder.report(ran.elapsed)["work"].latency_us;
    // 100 of 1000 came while it stood still, and waited half a second on average.
    assert!(open.p99 > 850_000.0 && open.p90 > 5_000.0, "{open:?}");
    let (ran, recorder) = run_paused(Pace::Closed { in_flight: 1 }, times(1000), &stop, work).await;
    let closed = recorder.report(ran.elapsed)["work"].latency_us;
    assert!(closed.p99 < 5_000.0, "a closed loop does not see it, which is why there is an open one: {closed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_is_counted_and_not_hidden() {
    // Each takes a second, ten may be outstanding: ten a second can be done of a hundred that are due.
    let (ran, recorder) =
        run_paused(open_loop(100.0, 10), for_seconds(10), &Stop::default(), |_| takes(Duration::from_secs(1))).await;
    assert_eq!(ran.started + ran.not_started, 1000);
    assert!((95..=110).contains(&ran.started), "{ran:?}");
    assert_eq!(recorder.report(ran.elapsed)["work"].done, ran.started);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_finishes_what_it_has_started() {
    for pace in [Pace::Closed { in_flight: 4 }, open_loop(100.0, 1000)] {
        let stop = Stop::default();
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            stopper.stop();
        });
        let (ran, _) = run_paused(pace, Limit::default(), &stop, |_| takes(Duration::from_millis(400))).await;
        assert!(ran.ended > 0 && ran.ended == ran.started, "{ran:?}");
        assert!(ran.elapsed < Duration::from_millis(1_950), "{ran:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_next_that_is_due() {
    let stop = Stop::default();
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stopper.stop();
    });
    let (ran, _) = run_paused(open_loop(0.01, 1), Limit::default(), &stop, |_| takes(Duration::ZERO)).await;
    assert_eq!(ran.started, 1);
    assert!(ran.elapsed < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_is_missed_in_the_counts() {
    for pace in [Pace::Closed { in_flight: 2 }, open_loop(100.0, 1000)] {
        let work = |number| async move {
            assert!(number != 1, "on purpose");
            takes(Duration::from_millis(1)).await
        };
        let (ran, _) = run_paused(pace, times(10), &Stop::default(), work).await;
        assert_eq!((ran.started, ran.ended), (10, 9));
    }
}

/// By the real clock: only that the thread rings, and that nothing is lost.
#[tokio::test]
async fn the_fine_alarm_starts_all_that_are_due() {
    let recorder = Arc::new(Recorder::default());
    let work = |_| async { Outcome::Done(200) };
    let ran = run(open_loop(5000.0, 100_000), times(500), &Stop::default(), &recorder, "work", work).await;
    assert_eq!((ran.started, ran.ended, ran.not_started), (500, 500, 0));
    assert!(ran.elapsed >= Duration::from_micros(499 * 200));
}
