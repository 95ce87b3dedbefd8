//! Tests of connections with a simulated server.

use std::{sync::Arc, time::Duration};

use http::{Request, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::Instant,
};

use super::{Connection, Fault, RESETS, STREAMS, Stream};
use crate::upstream::{interim::Relay, send_body::SendBody};

/// A SETTINGS frame without settings.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn request() -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_static("http://orders.internal/");
    request
}

async fn ask(connection: &Arc<Connection>) -> Fault {
    let answer = Stream::of(connection).exchange(request(), &mut SendBody::empty(), &mut Relay::new(None)).await;
    answer.map(drop).expect_err("nobody answers")
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_asked_whether_it_is_there_and_then_given_up() {
    let (ours, mut theirs) = duplex(1 << 16);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();
    theirs.write_all(SETTINGS).await.unwrap();
    let start = Instant::now();

    let fault = ask(&connection).await;

    assert!(matches!(fault, Fault::Silent), "{fault:?}");
    assert!((30..=32).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(connection.is_spent());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sends_is_there_whether_it_answers_pings_or_not() {
    let (ours, mut theirs) = duplex(1 << 16);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();
    let sending = async {
        for _ in 0..20 {
            theirs.write_all(SETTINGS).await.unwrap();
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    };
    tokio::select! {
        fault = ask(&connection) => panic!("{fault:?}"),
        () = sending => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_pings_and_says_nothing_else_is_there() {
    let (ours, mut theirs) = duplex(1 << 16);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();
    theirs.write_all(SETTINGS).await.unwrap();
    // Nothing falls on a whole millisecond.
    tokio::time::advance(Duration::from_micros(500)).await;
    let answering = async {
        let (mut seen, mut buffer, mut pings) = (Vec::new(), [0; 1024], 0);
        // Behind the preface.
        let mut at = 24;
        while pings < 5 {
            let count = theirs.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the connection was given up after {pings} answered pings");
            seen.extend_from_slice(&buffer[..count]);
            while let Some(head) = seen.get(at..at + 9) {
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                let (kind, flags) = (head[3], head[4]);
                let Some(payload) = seen.get(at + 9..at + 9 + length) else { break };
                if kind == 6 && flags & 1 == 0 {
                    pings += 1;
                    theirs.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], payload].concat()).await.unwrap();
                }
                at += 9 + length;
            }
        }
    };
    tokio::select! {
        fault = ask(&connection) => panic!("{fault:?}"),
        () = answering => {}
    }
}

#[tokio::test]
async fn there_is_one_stream_until_the_server_has_said_how_many() {
    let (ours, mut theirs) = duplex(1 << 16);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();
    assert!(connection.is_unsettled());
    assert_eq!(connection.vacancies(), 1);

    theirs.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 7]).await.unwrap();
    connection.settles().await;

    assert_eq!(connection.vacancies(), 7);
    let places: Vec<_> = (0..7).map(|_| Stream::of(&connection)).collect();
    assert_eq!(connection.vacancies(), 0);
    drop(places);
    assert_eq!((connection.vacancies(), connection.streams()), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_says_how_many_is_not_waited_for() {
    let (ours, _theirs) = duplex(1 << 16);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();

    connection.settles().await;

    assert_eq!(connection.vacancies(), STREAMS);
}

#[tokio::test]
async fn a_connection_on_which_many_streams_were_given_up_takes_no_more() {
    let (ours, mut theirs) = duplex(1 << 20);
    let connection = Connection::open(ours, Arc::default()).await.unwrap();
    theirs.write_all(SETTINGS).await.unwrap();
    for _ in 0..RESETS {
        assert!(!connection.is_spent());
        let mut waiting = Box::pin(ask(&connection));
        tokio::select! { biased; fault = &mut waiting => panic!("{fault:?}"), () = tokio::task::yield_now() => {} }
    }

    assert!(connection.is_spent());
    assert_eq!(connection.streams(), 0);
}
