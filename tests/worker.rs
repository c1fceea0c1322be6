//! The worker and its parent, as processes.
//!
//! Forking is only safe where there is one thread, as in PID 1: libtest has several, and a child
//! that panics there may wait for ever for a lock that no thread of its own will release. So this
//! is a program of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use backstay::agent::pid1::{End, WorkerMode};
use backstay::agent::pulse::Pulse;
use backstay::agent::worker::{Lost, run, run_watched};
use std::io::Read;
use std::time::Duration;

fn an_answer_crosses_the_pipe_whole() {
    let end = End::SwitchRoot {
        root: "/sysroot".into(),
        init: Some("/bin/sh".into()),
        args: vec!["single".into(); 300],
    };
    assert_eq!(run(WorkerMode::Full, |_| end.clone()), Ok(end));
}

fn a_worker_that_panics_is_an_error_with_its_reason() {
    let error = run(WorkerMode::Full, |_| -> End { panic!("on purpose") }).unwrap_err();
    assert!(error.contains("signal 6"), "{error}");
}

fn a_worker_that_is_killed_is_an_error_with_its_reason() {
    let error = run(WorkerMode::Plain, |_| {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
        End::Reboot
    })
    .unwrap_err();
    assert!(error.contains("(Plain) failed: signal 9"), "{error}");
}

fn an_answer_longer_than_a_pipe_is_refused_and_does_not_hang() {
    let error = run(WorkerMode::Full, |_| End::SwitchRoot {
        root: "x".repeat(100_000),
        init: None,
        args: vec![],
    })
    .unwrap_err();
    assert!(error.contains("exit status 3"), "{error}");
}

fn a_child_of_a_worker_that_dies_leaves_the_worker_alive() {
    let end = run(WorkerMode::Plain, |mode| {
        match run(mode, |_| -> bool { panic!("on purpose") }) {
            Err(_) => End::Reboot,
            Ok(_) => End::PowerOff,
        }
    });
    assert_eq!(end, Ok(End::Reboot));
}

fn watched(work: impl FnOnce(Duration) -> u8) -> Result<u8, Lost> {
    let silence = Duration::from_millis(400);
    run_watched(WorkerMode::Host, silence, |_| work(silence))
}

fn a_worker_that_gives_signs_of_life_is_waited_for_and_one_that_hangs_is_ended() {
    assert_eq!(watched(|_| 7), Ok(7));
    let slow = |silence: Duration| {
        for _ in 0..8 {
            std::thread::sleep(silence / 4);
            backstay::agent::log::alive();
        }
        8
    };
    assert_eq!(watched(slow), Ok(8));
    let hangs = |_| {
        std::thread::sleep(Duration::from_secs(600));
        9
    };
    let lost = watched(hangs).unwrap_err();
    assert!(
        lost.ended && lost.why.contains("no sign of life"),
        "{lost:?}"
    );
    let lost = watched(|_| std::process::abort()).unwrap_err();
    assert!(lost.ended && lost.why.contains("signal 6"), "{lost:?}");
}

/// What a child says on standard error while it does this, with a line of the pulse each 50 ms.
fn heard(work: impl FnOnce() -> u8) -> (Result<u8, Lost>, String) {
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let ended = watched(|_| {
        rustix::stdio::dup2_stderr(&theirs).unwrap();
        let pulse = Pulse::each(Duration::from_millis(50), "the test");
        let done = work();
        drop(pulse);
        done
    });
    drop(theirs);
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    (ended, text)
}

fn a_pulse_is_heard_until_it_ends_and_is_no_sign_of_life() {
    let (ended, text) = heard(|| {
        std::thread::sleep(Duration::from_millis(220));
        1
    });
    let lines = text.matches("the test goes on, since 0 min").count();
    assert!(
        ended == Ok(1) && (2..=5).contains(&lines),
        "{ended:?}: {text}"
    );
    // Nothing holds the pipe any more: it ended with the one that it spoke for.
    let (ended, text) = heard(|| {
        std::thread::sleep(Duration::from_secs(600));
        2
    });
    assert!(ended.is_err_and(|lost| lost.ended), "{text}");
    assert!(text.contains("the test goes on"), "{text}");
}

fn main() {
    let tests: [(&str, fn()); 7] = [
        (
            "a_pulse_is_heard_until_it_ends_and_is_no_sign_of_life",
            a_pulse_is_heard_until_it_ends_and_is_no_sign_of_life,
        ),
        (
            "a_worker_that_gives_signs_of_life_is_waited_for_and_one_that_hangs_is_ended",
            a_worker_that_gives_signs_of_life_is_waited_for_and_one_that_hangs_is_ended,
        ),
        (
            "a_child_of_a_worker_that_dies_leaves_the_worker_alive",
            a_child_of_a_worker_that_dies_leaves_the_worker_alive,
        ),
        (
            "an_answer_crosses_the_pipe_whole",
            an_answer_crosses_the_pipe_whole,
        ),
        (
            "a_worker_that_panics_is_an_error_with_its_reason",
            a_worker_that_panics_is_an_error_with_its_reason,
        ),
        (
            "a_worker_that_is_killed_is_an_error_with_its_reason",
            a_worker_that_is_killed_is_an_error_with_its_reason,
        ),
        (
            "an_answer_longer_than_a_pipe_is_refused_and_does_not_hang",
            an_answer_longer_than_a_pipe_is_refused_and_does_not_hang,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored",
        tests.len()
    );
}
