//! Every fault on its own, for every algorithm.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

use super::*;

/// A token with one fault.
struct Fault {
    name: String,
    token: String,
    /// True if other libraries may accept it: a lenient reader sees the same token, or ignores what it does not understand.
    forgivable: bool,
}

fn fault(name: impl Into<String>, token: impl Into<String>) -> Fault {
    Fault { name: name.into(), token: token.into(), forgivable: false }
}

fn forgivable(name: impl Into<String>, token: impl Into<String>) -> Fault {
    Fault { forgivable: true, ..fault(name, token) }
}

#[test]
fn no_faulty_token_is_verified_and_nothing_good_is_refused() {
    let signers = Signer::all();
    let keys: Vec<_> = signers.iter().map(Signer::jwk).collect();
    let verifier = verifier(&keys, Algorithm::ALL);
    let (mut count, mut forgiven, mut unforgiven) = (0, BTreeSet::new(), BTreeSet::new());
    for signer in &signers {
        let good = signer.token();
        assert!(is_good(&verifier, good.as_bytes()), "{}", signer.name());
        assert!(other_opinion(signer, &good).unwrap_or(true), "{}", signer.name());

        for Fault { name, token, forgivable } in faults(signer, &signers) {
            let who = signer.name();
            let verdict = verify(&verifier, token.as_bytes());

            assert!(verdict.is_err(), "{who}: {name}: {token}");
            // Once more, in case something of the first time was kept.
            assert!(verify(&verifier, token.as_bytes()).is_err(), "{who}: {name}, again");
            assert!(verifier.cached(token.as_bytes(), 0, Moment::of(&clock())).is_none(), "{who}: {name}");
            let elsewhere = other_opinion(signer, &token) == Some(true);
            assert!(forgivable || !elsewhere, "{who}: {name} is accepted elsewhere, and nobody said that it may be");
            count += 1;
            if forgivable {
                if elsewhere {
                    forgiven.insert(name)
                } else {
                    unforgiven.insert(name)
                };
            }
        }
        assert!(is_good(&verifier, good.as_bytes()), "{}", signer.name());
    }
    assert!(count > 1_000, "{count}");
    // What is called forgivable is so for a reason: somebody does forgive it.
    let idle: Vec<_> = unforgiven.difference(&forgiven).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// Returns whether another implementation accepts the token; `None` if it does not support the algorithm.
fn other_opinion(signer: &Signer, token: &str) -> Option<bool> {
    let algorithm: jsonwebtoken::Algorithm = signer.name().parse().ok()?;
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.set_audience(&["orders"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
    // It knows no clock but the machine's.
    validation.validate_exp = false;
    let jwk = serde_json::from_value(signer.jwk()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    Some(jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok())
}

fn faults(signer: &Signer, others: &[Signer]) -> Vec<Fault> {
    let stranger = Signer::of(signer.algorithm, 1);
    let mut all = pieces(signer);
    all.extend(encodings(signer));
    all.extend(headers(signer));
    all.extend(payloads(signer));
    all.extend(confusions(signer, others));
    all.extend(keys_of_the_token(signer, &stranger));
    all.extend(signatures(signer, &stranger));
    all
}

/// Returns tokens with missing or repeated parts, and other serialisations.
fn pieces(signer: &Signer) -> Vec<Fault> {
    let token = signer.token();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { unreachable!("three parts") };
    let general = json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] });
    let flattened = json!({ "payload": payload, "protected": header, "signature": signature });
    vec![
        fault("nothing", ""),
        fault("dots", ".."),
        fault("no signature", format!("{header}.{payload}.")),
        fault("no signature, no dot", format!("{header}.{payload}")),
        fault("no payload", format!("{header}..{signature}")),
        fault("no payload, signed so", signer.sign_input(&format!("{header}."))),
        fault("no payload, no dot", format!("{header}.{signature}")),
        fault("no header", format!(".{payload}.{signature}")),
        fault("no header, signed so", signer.sign_input(&format!(".{payload}"))),
        fault("no header, no dot", format!("{payload}.{signature}")),
        fault("payload alone", payload),
        fault("payload between dots", format!(".{payload}.")),
        fault("an empty part more", format!("{token}.")),
        fault("an empty part before", format!(".{token}")),
        fault("a part more", format!("{token}.AAAA")),
        fault("two parts more, as if encrypted", format!("{token}.AAAA.AAAA")),
        fault("twice", format!("{token}{token}")),
        fault("twice, with a dot", format!("{token}.{token}")),
        fault("header and payload change places", format!("{payload}.{header}.{signature}")),
        fault("a dot doubled", token.replacen('.', "..", 1)),
        fault("general JSON serialisation", general.to_string()),
        fault("flattened JSON serialisation", flattened.to_string()),
        fault("quoted", format!("\"{token}\"")),
        fault("with its scheme", format!("Bearer {token}")),
        fault("escaped dots", token.replace('.', "%2E")),
        fault("another dot", token.replace('.', "\u{2024}")),
        fault("space before", format!(" {token}")),
        fault("space after", format!("{token} ")),
        fault("line end after", format!("{token}\n")),
        fault("NUL after", format!("{token}\0")),
        fault("a comma and another token", format!("{token},{token}")),
        fault("a tilde, as selective disclosure has it", format!("{token}~")),
    ]
}

/// Returns other spellings of the same bytes, in each part. The signature covers the bytes that are sent, so that only the
/// spelling is wrong.
fn encodings(signer: &Signer) -> Vec<Fault> {
    let (header, payload) = (signer.header().to_string(), payload().to_string());
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let spelled = |part: &[u8]| {
        let good = text(part);
        let middle = good.len() / 2;
        let insert = |what: &str| format!("{}{what}{}", &good[..middle], &good[middle..]);
        let mut spellings = vec![
            ("one letter of padding", format!("{good}=")),
            ("two letters of padding", format!("{good}==")),
            ("padding before", format!("={good}")),
            ("a space inside", insert(" ")),
            ("a line end inside", insert("\r\n")),
            ("a tab inside", insert("\t")),
            ("a NUL inside", insert("\0")),
            ("a letter of no alphabet inside", insert("!")),
            ("a letter beyond ASCII inside", insert("é")),
            ("a letter too many", format!("{good}A")),
            ("an escaped letter", format!("%{:02X}{}", good.as_bytes()[0], &good[1..])),
        ];
        for (name, other) in
            [("padded", URL_SAFE.encode(part)), ("standard", STANDARD_NO_PAD.encode(part)), ("MIME", STANDARD.encode(part))]
        {
            if other != good {
                spellings.push((name, other));
            }
        }
        // Bits beyond the last byte: 4 of them where two letters are left over, 2 where three are.
        let beyond = match good.len() % 4 {
            2 => 16,
            3 => 4,
            _ => 1,
        };
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = LETTERS.iter().position(|letter| Some(letter) == good.as_bytes().last()).unwrap();
        for bits in 1..beyond {
            spellings.push(("bits beyond the end", format!("{}{}", &good[..good.len() - 1], LETTERS[last + bits] as char)));
        }
        spellings
    };

    let mut faults = Vec::new();
    for (name, spelling) in spelled(header.as_bytes()) {
        faults.push(fault(format!("header: {name}"), signer.sign_input(&format!("{spelling}.{}", text(payload.as_bytes())))));
    }
    // Payloads of each length, so that every kind of remainder is met.
    for more in ["", "x", "xx"] {
        let mut payload = super::payload();
        payload["more"] = more.into();
        let payload = payload.to_string();
        for (name, spelling) in spelled(payload.as_bytes()) {
            let token = signer.sign_input(&format!("{}.{spelling}", text(header.as_bytes())));
            faults.push(fault(format!("payload: {name}"), token));
        }
    }
    let input = format!("{}.{}", text(header.as_bytes()), text(payload.as_bytes()));
    for (name, spelling) in spelled(&signer.signature(input.as_bytes())) {
        faults.push(fault(format!("signature: {name}"), format!("{input}.{spelling}")));
    }
    faults
}

/// Returns headers that are not a JSON object, that have duplicate members, or that demand unknown extensions.
fn headers(signer: &Signer) -> Vec<Fault> {
    let good = signer.header().to_string();
    let members = &good[1..good.len() - 1];
    let raw = |header: &[u8]| signer.sign_bytes(header, payload().to_string().as_bytes());
    let with = |name: &str, value: Value| signer.sign(&signer.header_with(name, value));
    let without = |name: &str| {
        let mut header = signer.header();
        header.as_object_mut().unwrap().remove(name);
        signer.sign(&header)
    };
    let algorithm = format!("\"alg\":\"{}\"", signer.name());
    let mut faults = vec![
        fault("header: empty text", raw(b"")),
        fault("header: a list", raw(b"[]")),
        fault("header: a text", raw(b"\"RS256\"")),
        fault("header: null", raw(b"null")),
        fault("header: a list around it", raw(format!("[{good}]").as_bytes())),
        fault("header: byte order mark", raw(format!("\u{feff}{good}").as_bytes())),
        fault("header: no UTF-8", raw(&[b"{\"x\":\"\xff\",", members.as_bytes(), b"}"].concat())),
        fault("header: UTF-16", raw(&good.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())),
        fault("header: cut off", raw(&good.as_bytes()[..good.len() - 1])),
        fault("header: a comma too many", raw(format!("{{{members},}}").as_bytes())),
        fault("header: a comment", raw(format!("{{/**/{members}}}").as_bytes())),
        fault("header: single quotes", raw(good.replace('"', "'").as_bytes())),
        fault("header: twice", raw(format!("{good}{good}").as_bytes())),
        fault("header: something after it", raw(format!("{good}x").as_bytes())),
        fault("header: a NUL after it", raw(format!("{good}\0").as_bytes())),
        fault("header: bare control letter", raw(format!("{{\"x\":\"\u{1}\",{members}}}").as_bytes())),
        fault("header: a lone surrogate", raw(format!("{{\"x\":\"\\ud800\",{members}}}").as_bytes())),
        fault("header: algorithm twice, alike", raw(format!("{{{members},{algorithm}}}").as_bytes())),
        fault("header: algorithm twice, none first", raw(format!("{{\"alg\":\"none\",{members}}}").as_bytes())),
        fault("header: algorithm twice, escaped", raw(format!("{{\"\\u0061lg\":\"none\",{members}}}").as_bytes())),
        fault("header: key id twice", raw(format!("{{\"kid\":\"x\",{members}}}").as_bytes())),
        forgivable("header: an unknown member twice", raw(format!("{{\"x\":1,\"x\":2,{members}}}").as_bytes())),
        forgivable("header: a member twice, deep inside", raw(format!("{{\"x\":{{\"y\":1,\"y\":2}},{members}}}").as_bytes())),
        forgivable("header: nested deep", raw(format!("{{\"x\":{}{},{members}}}", "[".repeat(40), "]".repeat(40)).as_bytes())),
        forgivable("header: large", with("x", "x".repeat(5_000).into())),
        forgivable("header: a long key id", {
            let mut header = signer.header();
            header["kid"] = "k".repeat(300).into();
            signer.sign(&header)
        }),
        forgivable("header: key id as a path", with("kid", "../../../../dev/null".into())),
        forgivable("header: key id as SQL", with("kid", "x' UNION SELECT 'secret".into())),
        forgivable("header: key id of another case", with("kid", signer.key_id().to_uppercase().into())),
        forgivable("header: empty key id", with("kid", "".into())),
        fault("header: key id as a list", with("kid", json!([signer.key_id()]))),
        fault("header: key id as a number", with("kid", 7.into())),
        fault("header: no algorithm", without("alg")),
        fault("header: algorithm as a list", with("alg", json!([signer.name()]))),
        fault("header: algorithm as null", with("alg", Value::Null)),
        fault("header: algorithm of another case", with("alg", signer.name().to_lowercase().replace("eddsa", "EDDSA").into())),
        fault("header: algorithm with a space", with("alg", format!("{} ", signer.name()).into())),
        fault("header: type as a number", with("typ", 1.into())),
        forgivable("header: no key id", without("kid")),
    ];
    // RFC 7515, section 4.1.11; RFC 7797; RFC 7516.
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!(["urn:example:unknown"])),
        ("crit", json!([])),
        ("crit", json!(["alg"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
    ] {
        faults.push(forgivable(format!("header: {name}: {value}"), with(name, value)));
    }
    for kind in ["dpop+jwt", "pop", "id_token+jwt", "logout+jwt", "secevent+jwt", "oauth-authz-req+jwt", "JOSE", "JWE", "at", ""]
    {
        faults.push(forgivable(format!("header: type {kind:?}"), with("typ", kind.into())));
    }
    faults
}

/// Returns payloads that are not claims, with a valid signature.
fn payloads(signer: &Signer) -> Vec<Fault> {
    let good = payload().to_string();
    let members = &good[1..good.len() - 1];
    let raw = |payload: &[u8]| signer.sign_bytes(signer.header().to_string().as_bytes(), payload);
    let with = |name: &str, value: Value| {
        let mut payload = payload();
        payload[name] = value;
        raw(payload.to_string().as_bytes())
    };
    let mut faults = vec![
        fault("payload: a word", raw(b"foo")),
        fault("payload: a list", raw(format!("[{good}]").as_bytes())),
        fault("payload: byte order mark", raw(format!("\u{feff}{good}").as_bytes())),
        fault("payload: cut off", raw(&good.as_bytes()[..good.len() - 1])),
        fault("payload: twice", raw(format!("{good}{good}").as_bytes())),
        fault("payload: no UTF-8", raw(&[b"{\"x\":\"\xff\",", members.as_bytes(), b"}"].concat())),
        fault("payload: an issuer twice", raw(format!("{{\"iss\":\"https://evil.example\",{members}}}").as_bytes())),
        fault("payload: an expiry twice, escaped", raw(format!("{{\"\\u0065xp\":1,{members}}}").as_bytes())),
        forgivable("payload: a member twice, deep inside", raw(format!("{{\"x\":[{{\"y\":1,\"y\":2}}],{members}}}").as_bytes())),
        forgivable("payload: nested deep", raw(format!("{{\"x\":{}{},{members}}}", "[".repeat(40), "]".repeat(40)).as_bytes())),
        fault("payload: nested very deep", raw(format!("{{\"x\":{}", "[".repeat(20_000)).as_bytes())),
        fault("payload: a number beyond all", raw(format!("{{\"x\":1e999,{members}}}").as_bytes())),
        fault("payload: another token inside", raw(signer.token().as_bytes())),
    ];
    for (name, value) in [
        ("exp", Value::Null),
        ("exp", json!("1790000600")),
        ("exp", json!([NOW + 600])),
        ("exp", json!(-1)),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("nbf", json!({})),
        ("iss", json!(7)),
        ("sub", json!(["nia"])),
        ("aud", json!({ "orders": 1 })),
        ("aud", json!([["orders"]])),
        ("scope", json!(7)),
    ] {
        // Which types are judged at all differs from reader to reader.
        faults.push(Fault { forgivable: name == "scope", ..fault(format!("payload: {name}: {value}"), with(name, value)) });
    }
    // RFC 7519, section 4.1.4, knows fractions; what is over is over within the second.
    faults.push(forgivable("payload: an expiry with a fraction, over", with("exp", json!(NOW as f64 - 600.5))));
    faults.push(forgivable("payload: an expiry beyond 2^53", with("exp", json!(1_u64 << 60))));
    faults
}

/// Returns tokens with a wrong algorithm, or none.
fn confusions(signer: &Signer, others: &[Signer]) -> Vec<Fault> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let unsigned = |header: &Value| format!("{}.{}", text(header.to_string().as_bytes()), text(payload().to_string().as_bytes()));
    let mut faults = Vec::new();
    for name in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "none ",
        "",
        "null",
        "RS1",
        "ES256K",
        "RSA-OAEP",
        "A256KW",
        "dir",
        "PBES2-HS256+A128KW",
        "HS256\0",
    ] {
        let header = signer.header_with("alg", name);
        faults.push(fault(format!("algorithm {name:?}, no signature"), format!("{}.", unsigned(&header))));
        faults.push(fault(format!("algorithm {name:?}, no third part"), unsigned(&header)));
        faults.push(fault(format!("algorithm {name:?}, signed"), signer.sign(&header)));
    }
    // The public key, in every form that it has, as the secret of a MAC.
    let jwk = signer.jwk();
    let mut secrets = vec![
        ("nothing", Vec::new()),
        ("the key id", signer.key_id().into_bytes()),
        ("the public key", signer.public_bytes()),
        (
            "the public key, PEM",
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(signer.public_bytes()))
                .into_bytes(),
        ),
        ("the public key, base64", STANDARD.encode(signer.public_bytes()).into_bytes()),
        ("the JWK", jwk.to_string().into_bytes()),
    ];
    for member in ["n", "e", "x", "y"] {
        if let Some(number) = jwk.get(member).and_then(Value::as_str) {
            secrets.push(("a member of the JWK", number.as_bytes().to_vec()));
            secrets.push(("a number of the JWK", URL_SAFE_NO_PAD.decode(number).unwrap()));
        }
    }
    for (name, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for claimed in [name, signer.name()] {
            let input = unsigned(&signer.header_with("alg", claimed));
            for (what, secret) in &secrets {
                let tag = hmac::sign(&hmac::Key::new(algorithm, secret), input.as_bytes());
                faults.push(fault(format!("{name} with {what}, called {claimed}"), format!("{input}.{}", text(tag.as_ref()))));
            }
        }
    }
    // The signature of one algorithm under the name of another, and under the key of another.
    for other in others.iter().filter(|other| other.algorithm != signer.algorithm) {
        let input = unsigned(&signer.header_with("alg", other.name()));
        faults.push(fault(format!("called {}", other.name()), format!("{input}.{}", text(&signer.signature(input.as_bytes())))));
        let input = unsigned(&signer.header());
        faults
            .push(fault(format!("signed by {}", other.name()), format!("{input}.{}", text(&other.signature(input.as_bytes())))));
        let same_key = matches!((&signer.pair, &other.pair), (Pair::Rsa(_), Pair::Rsa(_)));
        if !same_key {
            let header = signer.header_with("kid", other.key_id());
            faults
                .push(Fault { forgivable: true, ..fault(format!("with the key id of {}", other.name()), signer.sign(&header)) });
            let mut header = other.header();
            header["kid"] = signer.key_id().into();
            faults.push(fault(format!("of {} with another's key id", other.name()), other.sign(&header)));
        }
    }
    faults
}

/// Returns tokens that name their key's address, or contain their key.
fn keys_of_the_token(signer: &Signer, stranger: &Signer) -> Vec<Fault> {
    let jwk = stranger.jwk();
    let certificate = STANDARD.encode(key(1).certificate());
    let mut faults = Vec::new();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://evil.example/keys")),
        ("jku", json!(format!("{ISSUER}@evil.example/keys"))),
        ("jku", json!(format!("data:application/json,{}", json!({ "keys": [jwk] })))),
        ("x5u", json!("https://evil.example/certificate")),
        ("x5c", json!([certificate])),
        ("x5t", json!(key(1).kid())),
        ("x5t#S256", json!("AAAA")),
    ] {
        let header = signer.header_with(name, value.clone());
        faults.push(fault(format!("{name} of a stranger, who signed"), stranger.sign(&header)));
        let mut header = header;
        header["kid"] = stranger.jwk()["kid"].clone();
        header["kid"] = format!("{} of a stranger", header["kid"]).into();
        faults.push(fault(format!("{name} and key id of a stranger, who signed"), stranger.sign(&header)));
        header.as_object_mut().unwrap().remove("kid");
        faults.push(fault(format!("{name} of a stranger, no key id"), stranger.sign(&header)));
    }
    faults
}

/// Returns signatures of other tokens.
fn signatures(signer: &Signer, stranger: &Signer) -> Vec<Fault> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input =
        |payload: &Value| format!("{}.{}", text(signer.header().to_string().as_bytes()), text(payload.to_string().as_bytes()));
    let mut other_payload = payload();
    other_payload["sub"] = "admin".into();
    let (input, other_input) = (input(&payload()), input(&other_payload));
    let good = signer.signature(input.as_bytes());
    let length = good.len();
    let (header, payload) = input.split_once('.').unwrap();
    let mut all = vec![
        ("a stranger's".to_owned(), stranger.signature(input.as_bytes())),
        ("another token's".to_owned(), signer.signature(other_input.as_bytes())),
        ("the header's".to_owned(), signer.signature(header.as_bytes())),
        ("the payload's".to_owned(), signer.signature(payload.as_bytes())),
        ("without the dot".to_owned(), signer.signature(input.replace('.', "").as_bytes())),
        ("over a dot more".to_owned(), signer.signature(format!("{input}.").as_bytes())),
        ("over what is encoded".to_owned(), signer.signature(super::payload().to_string().as_bytes())),
        ("over nothing".to_owned(), signer.signature(b"")),
        ("zeros".to_owned(), vec![0; length]),
        ("ones".to_owned(), vec![0xff; length]),
        ("one".to_owned(), [vec![0; length - 1], vec![1]].concat()),
        ("one and one".to_owned(), [vec![0; length / 2 - 1], vec![1], vec![0; length - length / 2 - 1], vec![1]].concat()),
        ("halves change places".to_owned(), [&good[length / 2..], &good[..length / 2]].concat()),
        ("from behind".to_owned(), good.iter().rev().copied().collect()),
        ("twice".to_owned(), good.repeat(2)),
        ("first half zero".to_owned(), [vec![0; length / 2], good[length / 2..].to_vec()].concat()),
        ("second half zero".to_owned(), [good[..length / 2].to_vec(), vec![0; length - length / 2]].concat()),
        ("a zero before".to_owned(), [&[0], &good[..]].concat()),
        ("a zero after".to_owned(), [&good[..], &[0]].concat()),
        ("its text".to_owned(), text(&good).into_bytes()),
    ];
    all.extend([1, 2, length / 2, length - 1].map(|kept| (format!("the first {kept} bytes"), good[..kept].to_vec())));
    all.extend([1, 2, length / 2, length - 1].map(|kept| (format!("the last {kept} bytes"), good[length - kept..].to_vec())));
    match &signer.pair {
        Pair::Rsa(key) => {
            // The same number, one modulus further: a reader that reduces would take it.
            all.push(("a modulus more".to_owned(), sum(&good, key.modulus())));
            all.push(("the modulus".to_owned(), key.modulus().to_vec()));
        }
        Pair::Elliptic(..) => {
            let (r, s) = good.split_at(length / 2);
            all.push(("in DER".to_owned(), der(r, s)));
            // Coordinates with a zero more each: the same numbers, of another length.
            all.push(("halves a zero longer".to_owned(), [&[0], r, &[0], s].concat()));
        }
        Pair::Edwards(_) => {
            // The group's order, little-endian: RFC 8032, section 5.1.7, wants S below it.
            let order = [
                0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            ];
            let (r, s) = good.split_at(32);
            let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
            let larger = reversed(&sum(&reversed(s), &reversed(&order)));
            all.push(("S beyond the order".to_owned(), [r, &larger].concat()));
        }
    }
    all.into_iter()
        .map(|(name, signature)| fault(format!("signature: {name}"), format!("{input}.{}", text(&signature))))
        .collect()
}

/// Returns the sum of two big-endian numbers; a byte longer if necessary.
fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let (mut bytes, mut carry) = (Vec::new(), 0_u16);
    for at in 0..one.len().max(other.len()) {
        let digit = |number: &[u8]| number.len().checked_sub(at + 1).map_or(0, |index| u16::from(number[index]));
        carry += digit(one) + digit(other);
        bytes.push(carry.to_le_bytes()[0]);
        carry >>= 8;
    }
    if carry > 0 {
        bytes.push(1);
    }
    bytes.reverse();
    bytes
}

/// Encodes a signature as X.509 does: a SEQUENCE of two INTEGERs.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut number: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        if number.first().is_some_and(|first| *first >= 0x80) {
            number.insert(0, 0);
        }
        [&[2, u8::try_from(number.len()).unwrap()], &number[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    let length = u8::try_from(body.len()).unwrap();
    let head = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [head, body].concat()
}
