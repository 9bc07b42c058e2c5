//! What messages and answers take of the memory, and who has to wait for it.

use super::*;

async fn with_room(limits: RoomLimits) -> (Child, Door, Room) {
    let room = Room::new(limits);
    let (child, door) = hostile(Options {
        room: room.clone(),
        ..Options::default()
    })
    .await;
    (child, door, room)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_takes_room_until_the_server_has_it() {
    let (_child, door, room) = with_room(RoomLimits::default()).await;
    let one = door.session("one", "2025-11-25").await;
    let text = "x".repeat(2 << 20);
    let waiting = {
        let one = one.clone();
        tokio::spawn(async move { one.call("w", "wait", json!({"text": text})).await })
    };
    // Answered after it in order, so the server has read the long one by then.
    until("the call to be sent", || async {
        let answer = one.call(1, "waits", json!({})).await.json();
        answer["result"]["said"] == json!(true)
    })
    .await;
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_cannot_fill_the_memory_while_a_server_does_not_read() {
    let limits = RoomLimits {
        all_bytes: 8 << 20,
        user_bytes: 2 << 20,
        small_bytes: 4 << 10,
    };
    let (_child, door, room) = with_room(limits).await;
    let (one, two) = (
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    );
    one.call(0, "deaf", json!({})).await;
    let text = "x".repeat(300 << 10);
    let mut refused = None;
    let mut calls = Vec::new();
    for id in 1..12 {
        let (one, text) = (one.clone(), text.clone());
        calls.push(tokio::spawn(async move {
            one.call(id, "wait", json!({"text": text})).await
        }));
    }
    until("a call to be refused", || {
        let done = calls.iter().position(tokio::task::JoinHandle::is_finished);
        refused = refused.or(done);
        assert!(room.held_bytes() <= 2 << 20);
        std::future::ready(refused.is_some())
    })
    .await;
    let answer = calls.remove(refused.unwrap()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code()), (429, -32000));
    // Another's message is read all the same; that the server does not take it is another matter.
    let tasks = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"});
    assert_eq!(two.post(&tasks).await.code(), -32601);
    for call in calls {
        call.abort();
    }
    drop(door);
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_too_many_values_are_refused_before_they_are_built() {
    let (mut child, door, room) = with_room(RoomLimits::default()).await;
    let session = door.session("one", "2025-11-25").await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":[{}0]}}"#,
        "0,".repeat(1 << 20)
    );
    let answer = session.send(http::Method::POST, body).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, -32600));
    let answer = session.call(2, "numbers", json!({"count": 1 << 20})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (200, -32000));
    assert!(answer.body.contains("too many values"), "{answer:?}");
    let fine = session.call(3, "numbers", json!({"count": 1 << 17})).await;
    assert_eq!(
        fine.json()["result"]["said"].as_array().unwrap().len(),
        1 << 17
    );
    assert!(child.try_wait().unwrap().is_none(), "the server goes on");
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
}

/// A server that speaks HTTP and answers with as many numbers as it is asked for.
async fn numbers_over_http(request: Request) -> Response {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return Response::new("".into());
    };
    let id = &message["id"];
    let (kind, answer) = match message["params"]["count"].as_u64() {
        None => {
            let result =
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}});
            (
                "application/json",
                json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
            )
        }
        Some(count) => {
            let numbers = vec!["0"; count as usize].join(",");
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[{numbers}]}}"#);
            match message["method"] == "events" {
                true => ("text/event-stream", format!("data: {answer}\n\n")),
                false => ("application/json", answer),
            }
        }
    };
    Response::builder()
        .header("content-type", kind)
        .body(answer.into())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_an_http_server_take_room_too() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let app = axum::Router::new().fallback(numbers_over_http);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let room = Room::new(RoomLimits::default());
    let options = Options {
        room: room.clone(),
        ..Options::default()
    };
    let relay = HttpRelay::start_with(socket, "/mcp".to_owned(), masks(), START, options)
        .await
        .unwrap();
    let door = Door::open(Relay::Http(relay)).await;
    let client = Session::new(&door.url, "one");
    for method in ["json", "events"] {
        let ask = |count: usize| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"count": count}});
        let answer = client.post(&ask(1 << 20)).await;
        assert!(
            answer.body.contains("too many values"),
            "{method} {answer:?}"
        );
        let answer = client.post(&ask(1 << 17)).await;
        assert!(answer.body.len() > 1 << 18, "{method} {answer:?}");
    }
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_bounded() {
    let limits = RoomLimits {
        all_bytes: 64 << 20,
        user_bytes: 40 << 20,
        small_bytes: 1 << 20,
    };
    let (_child, door, room) = with_room(limits).await;
    let one = door.session("one", "2025-11-25").await;
    for accept in ["application/json", "text/event-stream"] {
        let one = one.with("accept", accept);
        let mut unread = Vec::new();
        let mut refused = None;
        for id in 0..12 {
            let mut answer = one
                .http
                .post(&one.url)
                .headers(one.headers.clone())
                .body(call(id, "long_answer", json!({})).to_string())
                .send()
                .await
                .unwrap();
            // Only its beginning is read: a stream has begun before its answer is there, and
            // the next call is not sent before this one's answer has taken its room.
            let mut begun = String::new();
            while !["\"result\"", "\"error\""]
                .iter()
                .any(|key| begun.contains(key))
            {
                let chunk = answer.chunk().await.unwrap().unwrap();
                begun.push_str(&String::from_utf8_lossy(&chunk));
            }
            if begun.contains("\"error\"") {
                refused = Some(begun + &answer.text().await.unwrap());
                break;
            }
            unread.push(answer);
            assert!(room.held_bytes() <= 40 << 20, "{}", room.held_bytes());
        }
        let refused = refused.unwrap();
        assert!(refused.contains("Too much of yours"), "{refused}");
        drop(unread);
        until("the room to be free", || async { room.held_bytes() == 0 }).await;
    }
}
