//! A client against servers that misbehave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Client, Endpoint, Failure, FailureKind, Login, Mode, Reply, Script, Settings,
    testing::{Command, FaultyServer, Reaction, TestLogin, acknowledged},
};

/// More than a loaded machine takes for a reply, and little enough to be waited for.
const TIMEOUT: Duration = Duration::from_millis(500);

fn settings(seeds: Vec<Endpoint>, mode: Mode) -> Settings {
    let logins = Arc::new(TestLogin::default());
    Settings { mode, seeds, tls: None, database: 0, logins, sentinel_login: None, timeout: TIMEOUT }
}

fn client_of(server: &FaultyServer) -> Client {
    Client::start(settings(vec![server.endpoint()], Mode::Single)).unwrap()
}

async fn server(react: impl Fn(&Command) -> Reaction + Send + Sync + 'static) -> FaultyServer {
    FaultyServer::start(move |command| acknowledged(command).unwrap_or_else(|| react(command))).await.unwrap()
}

fn script() -> Script {
    Script::new("return redis.call('GET', KEYS[1])")
}

async fn ask(client: &Client) -> Result<Reply, Failure> {
    client.run(&script(), b"entrada:1:{a}:r", &[b"1"]).await
}

/// Asks until there is a result: connections are made in the background.
async fn ask_until_answered(client: &Client) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask(client).await {
            Ok(reply) => return reply,
            Err(failure) => assert!(Instant::now() < deadline, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_script_that_the_server_lost_is_sent_once_and_found_afterwards() {
    let server = server(|command| match &*command[0] {
        b"EVALSHA" => Reaction::error("NOSCRIPT No matching script. Please use EVAL."),
        _ => Reaction::numbers(&[1]),
    })
    .await;
    let client = client_of(&server);

    assert_eq!(ask(&client).await.unwrap(), Reply::List(vec![Reply::Integer(1)]));

    let commands = server.commands();
    let eval: Vec<_> = commands.iter().filter(|command| command[0] == b"EVAL").collect();
    assert_eq!(eval.len(), 1);
    assert_eq!(eval[0][1..], [script().text().as_bytes(), b"1", b"entrada:1:{a}:r", b"1"].map(<[u8]>::to_vec));
    // One that does not even know EVAL's script is not asked for ever.
    server.react(|_| Reaction::error("NOSCRIPT"));
    assert!(matches!(ask(&client).await, Err(Failure::Refused(_))));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn no_call_waits_longer_than_its_deadline() {
    for fault in [Reaction::Silence, Reaction::Bytes(b"$5\r\nab")] {
        let server = server(move |_| fault.clone()).await;
        let client = client_of(&server);
        let began = Instant::now();

        let failure = ask(&client).await.unwrap_err();

        assert_eq!(failure.kind(), FailureKind::Timeout, "{failure}");
        assert!(began.elapsed() < TIMEOUT * 3, "{:?}", began.elapsed());
    }
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let seed = Endpoint { host: nobody.ip().to_string().into(), port: nobody.port() };
    let client = Client::start(settings(vec![seed], Mode::Single)).unwrap();
    let failure = ask(&client).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Connection, "{failure}");
}

#[tokio::test]
async fn what_breaks_off_is_lost_and_not_sent_again() {
    for fault in [
        Reaction::Close,
        Reaction::BytesThenClose(b"*3\r\n:1\r\n"),
        Reaction::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Reaction::Bytes(b":1\r\n:2\r\n"),
    ] {
        let server = server({
            let fault = fault.clone();
            move |_| fault.clone()
        })
        .await;
        let client = client_of(&server);

        let result = ask(&client).await;

        if let Reaction::Bytes(b":1\r\n:2\r\n") = fault {
            // The second reply is nobody's: whoever comes next must not take it for theirs.
            assert_eq!(result.unwrap(), Reply::Integer(1));
        } else {
            assert!(matches!(result, Err(Failure::Lost(_))), "{fault:?}: {result:?}");
        }
        assert_eq!(server.count("EVALSHA"), 1, "{fault:?}");
        server.react(|command| acknowledged(command).unwrap_or(Reaction::numbers(&[7])));
        assert_eq!(ask_until_answered(&client).await, Reply::List(vec![Reply::Integer(7)]));
        assert_eq!(server.connections(), 2, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_reach_those_who_asked_whatever_was_given_up_before() {
    // Answers with what was asked, the first one too late.
    let server = server(|command| {
        let number: i64 = std::str::from_utf8(&command[4]).unwrap().parse().unwrap();
        if number == 0 {
            std::thread::sleep(TIMEOUT + Duration::from_millis(200));
        }
        Reaction::numbers(&[number])
    })
    .await;
    // The thread that sleeps is the server's own, since the client has one for itself.
    let client = client_of(&server);
    let ask = |number: i64| {
        let client = client.clone();
        async move { client.run(&script(), b"a", &[number.to_string().as_bytes()]).await }
    };

    let late = tokio::spawn(ask(0));
    assert!(late.await.unwrap().is_err());
    for number in 1..50 {
        if let Ok(reply) = ask(number).await {
            assert_eq!(reply, Reply::List(vec![Reply::Integer(number)]));
        }
    }
    let last = ask(50).await.unwrap();
    assert_eq!(last, Reply::List(vec![Reply::Integer(50)]));
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let server = server(|_| Reaction::error("READONLY You can't write against a read only replica.")).await;
    let client = client_of(&server);
    assert_eq!(ask(&client).await.unwrap_err().kind(), FailureKind::ReadOnly);

    server.react(|command| acknowledged(command).unwrap_or(Reaction::numbers(&[1])));
    ask_until_answered(&client).await;

    assert!(server.connections() >= 2, "it is looked for anew");
}

#[tokio::test]
async fn starting_servers_and_wrong_passwords_are_tried_again() {
    for (text, kind) in
        [("LOADING Redis is loading the dataset in memory", FailureKind::Busy), ("WRONGPASS", FailureKind::Authentication)]
    {
        let server = FaultyServer::start(move |_| Reaction::error(text)).await.unwrap();
        let client = client_of(&server);
        assert_eq!(ask(&client).await.unwrap_err().kind(), kind);

        server.react(|command| acknowledged(command).unwrap_or(Reaction::numbers(&[1])));

        ask_until_answered(&client).await;
    }
}

#[tokio::test]
async fn clusters_send_calls_to_the_node_of_the_key() {
    let owner = server(|command| match &*command[0] {
        b"ASKING" => Reaction::Reply(Reply::Simple("OK".into())),
        _ => Reaction::numbers(&[2]),
    })
    .await;
    let (slot, node) = (crate::slot_of(b"a"), owner.endpoint());
    for kind in ["MOVED", "ASK"] {
        let text = format!("{kind} {slot} {node}");
        let seed = server(move |command| match &*command[0] {
            b"CLUSTER" => Reaction::error("ERR not now"),
            _ => Reaction::error(&text),
        })
        .await;
        let client = Client::start(settings(vec![seed.endpoint()], Mode::Cluster)).unwrap();

        let reply = ask_until_answered(&client).await;
        assert_eq!(reply, Reply::List(vec![Reply::Integer(2)]), "{kind}");
        let before = seed.count("EVALSHA");
        ask(&client).await.unwrap();

        assert_eq!(seed.count("EVALSHA") > before, kind == "ASK", "{kind}: what has moved is asked there at once");
        let commands = owner.commands();
        let asking: Vec<_> = commands.windows(2).filter(|pair| pair[0][0] == b"ASKING").collect();
        assert!(asking.iter().all(|pair| pair[1][0] == b"EVALSHA"));
        assert_eq!(!asking.is_empty(), kind == "ASK");
    }
    // Nodes that point at each other are not followed for ever.
    let text = format!("MOVED {slot} {node}");
    owner.react(move |command| acknowledged(command).unwrap_or_else(|| Reaction::error(&text)));
    let client = Client::start(settings(vec![owner.endpoint()], Mode::Cluster)).unwrap();
    assert_eq!(ask(&client).await.unwrap_err().kind(), FailureKind::Cluster);
}

#[tokio::test]
async fn slots_are_known_before_the_first_call() {
    let owner = server(|command| match &*command[0] {
        b"CLUSTER" => Reaction::error("ERR not here"),
        _ => Reaction::numbers(&[2]),
    })
    .await;
    let (host, port) = (owner.address().ip().to_string(), i64::from(owner.address().port()));
    let node = Reply::List(vec![Reply::Bulk(host.as_bytes().into()), Reply::Integer(port)]);
    let slots = Reply::List(vec![Reply::List(vec![Reply::Integer(0), Reply::Integer(16_383), node])]);
    let seed = server(move |command| match &*command[0] {
        b"CLUSTER" => Reaction::Reply(slots.clone()),
        _ => Reaction::error("ERR it is asked although it has no slot"),
    })
    .await;
    let client = Client::start(settings(vec![seed.endpoint()], Mode::Cluster)).unwrap();

    assert_eq!(ask_until_answered(&client).await, Reply::List(vec![Reply::Integer(2)]));

    assert_eq!(client.server_of(b"entrada:1:{a}:r"), owner.endpoint());
    assert_eq!(client.status().servers, 2);
}

#[tokio::test]
async fn sentinels_name_the_primary_and_its_successor() {
    let (first, second) = (server(|_| Reaction::numbers(&[1])).await, server(|_| Reaction::numbers(&[2])).await);
    let named = |primary: &FaultyServer| {
        let (host, port) = (primary.address().ip().to_string(), primary.address().port().to_string());
        let address = Reply::List([host, port].map(|part| Reply::Bulk(part.as_bytes().into())).into());
        move |command: &Command| acknowledged(command).unwrap_or_else(|| Reaction::Reply(address.clone()))
    };
    let sentinel = FaultyServer::start(named(&first)).await.unwrap();
    let dead = Endpoint { host: "127.0.0.1".into(), port: 1 };
    let client = Client::start(settings(vec![dead, sentinel.endpoint()], Mode::Sentinel("limits".into()))).unwrap();
    assert_eq!(ask_until_answered(&client).await, Reply::List(vec![Reply::Integer(1)]));

    // The old primary is a replica now.
    sentinel.react(named(&second));
    first.react(|command| acknowledged(command).unwrap_or(Reaction::error("READONLY You can't write")));
    let mut reply = Reply::Nothing;
    let deadline = Instant::now() + Duration::from_secs(20);
    while reply != Reply::List(vec![Reply::Integer(2)]) && Instant::now() < deadline {
        reply = ask_until_answered(&client).await;
    }

    assert_eq!(reply, Reply::List(vec![Reply::Integer(2)]));
    assert!(sentinel.commands().iter().any(|command| command[1..] == [&b"get-master-addr-by-name"[..], b"limits"]));
}

#[tokio::test]
async fn a_login_that_changes_is_sent_on_the_open_connection() {
    let server = server(|_| Reaction::numbers(&[1])).await;
    let login = |password: &str| Some(Login { user: Some("entrada".into()), password: Arc::new(password.into()) });
    let logins = Arc::new(TestLogin(login("first").into()));
    let client = Client::start(Settings { logins: logins.clone(), ..settings(vec![server.endpoint()], Mode::Single) }).unwrap();
    ask_until_answered(&client).await;

    *logins.0.lock().unwrap() = login("second");
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.count("AUTH") < 2 && Instant::now() < deadline {
        ask_until_answered(&client).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let sent: Vec<_> =
        server.commands().into_iter().filter(|command| command[0] == b"AUTH").map(|mut it| it.swap_remove(2)).collect();
    assert_eq!(sent, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(server.connections(), 1, "nothing was interrupted");
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_its_server() {
    let server = server(|_| Reaction::numbers(&[1])).await;
    for _ in 0..10 {
        let client = client_of(&server);
        ask_until_answered(&client).await;
        assert_eq!(client.status().connected, 1);
    }
    assert_eq!(server.connections(), 10, "one for each, and none of them came back");
}
