//! Mutations: no byte of a good token can be changed.

use proptest::prelude::*;

use super::*;

/// Makes a verifier of one algorithm, and a good token.
///
/// Each ECDSA signature has a twin (`n - s`) that anybody can make and that covers the same bytes; it is far beyond the reach of
/// these mutations.
fn scene(algorithm: Algorithm) -> (Verifier, String, Signer) {
    let signer = Signer::of(algorithm, 0);
    let verifier = verifier(&[signer.jwk()], &[algorithm]);
    let token = signer.token();
    assert!(is_good(&verifier, token.as_bytes()));
    (verifier, token, signer)
}

fn assert_refused(verifier: &Verifier, token: &[u8]) {
    let text = String::from_utf8_lossy(token);
    assert!(verify(verifier, token).is_err(), "{text}");
    // The good token was seen before; nothing else is taken for it.
    assert!(verifier.cached(token, 0, Moment::of(&clock())).is_none(), "{text}");
}

#[test]
fn no_bit_of_a_token_can_be_turned() {
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa] {
        let (verifier, token, _) = scene(algorithm);
        let mut bytes = token.into_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert_refused(&verifier, &bytes);
                bytes[at] ^= 1 << bit;
            }
        }
        assert!(is_good(&verifier, &bytes), "{algorithm:?}");
    }
}

#[test]
fn no_last_letter_of_a_part_has_a_twin() {
    for algorithm in Algorithm::ALL {
        let (verifier, token, _) = scene(*algorithm);
        let ends = [token.find('.').unwrap(), token.rfind('.').unwrap(), token.len()];
        for end in ends {
            let mut bytes = token.clone().into_bytes();
            for letter in 0..=u8::MAX {
                if letter != token.as_bytes()[end - 1] {
                    bytes[end - 1] = letter;
                    assert_refused(&verifier, &bytes);
                }
            }
        }
    }
}

#[test]
fn no_piece_of_a_token_is_a_token() {
    let (verifier, token, _) = scene(Algorithm::Rs256);
    let bytes = token.as_bytes();
    for at in 0..bytes.len() {
        assert_refused(&verifier, &bytes[..at]);
        assert_refused(&verifier, &bytes[at + 1..]);
        assert_refused(&verifier, &[&bytes[..at], &bytes[at + 1..]].concat());
        assert_refused(&verifier, &[&bytes[..=at], &bytes[at..]].concat());
        if at > 0 && bytes[at - 1] != bytes[at] {
            let mut swapped = bytes.to_vec();
            swapped.swap(at - 1, at);
            assert_refused(&verifier, &swapped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_patchwork_of_two_tokens_is_a_token(cuts in proptest::collection::vec(any::<prop::sample::Index>(), 1..4), swap in any::<bool>()) {
        let (verifier, one, signer) = scene(Algorithm::Rs256);
        let mut other = payload();
        other["sub"] = "admin".into();
        let other = signer.sign_bytes(signer.header().to_string().as_bytes(), other.to_string().as_bytes());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(one.len().min(other.len()))).collect();
        cuts.sort_unstable();

        let (mut patched, mut from, mut first) = (Vec::new(), 0, swap);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let source = if first { one.as_bytes() } else { other.as_bytes() };
            patched.extend_from_slice(&source[from..cut.min(source.len())]);
            (from, first) = (cut, !first);
        }

        let whole = patched == one.as_bytes() || patched == other.as_bytes();
        prop_assert_eq!(is_good(&verifier, &patched), whole);
    }

    #[test]
    fn nothing_but_a_signer_makes_tokens(bytes in proptest::collection::vec(any::<u8>(), 0..64), dot in any::<bool>()) {
        let (verifier, token, _) = scene(Algorithm::EdDsa);
        let (input, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{input}{}{}", if dot { "." } else { "" }, URL_SAFE_NO_PAD.encode(bytes));

        prop_assert!(verify(&verifier, forged.as_bytes()).is_err());
    }
}
