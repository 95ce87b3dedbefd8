//! Values that were made of the same few bytes before: host names, names of fields, addresses.
//!
//! A table has one place for each of some hashes, so that its memory is bounded, and what is read there is only taken if it was made of
//! exactly these bytes: a value never depends on what the table holds.

/// The longest key that is remembered, in bytes.
const LONGEST: usize = 47;

/// A table of values by the bytes that they were made of; for one thread.
#[derive(Debug)]
pub struct Memo<V, const N: usize>([Option<Entry<V>>; N]);

#[derive(Debug)]
struct Entry<V> {
    length: u8,
    key: [u8; LONGEST],
    value: V,
}

impl<V: Clone, const N: usize> Default for Memo<V, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone, const N: usize> Memo<V, N> {
    /// Makes an empty table. `N` is a power of two.
    pub const fn new() -> Self {
        assert!(N.is_power_of_two());
        Self([const { None }; N])
    }

    /// Returns the value of these bytes: as it was made before, or else made now.
    ///
    /// # Errors
    /// Fails if the value cannot be made. Failures are not remembered.
    pub fn get<E>(&mut self, key: &[u8], make: impl FnOnce(&[u8]) -> Result<V, E>) -> Result<V, E> {
        if key.len() > LONGEST {
            return make(key);
        }
        let place = &mut self.0[place(key) & (N - 1)];
        if let Some(entry) = place
            && entry.key[..usize::from(entry.length)] == *key
        {
            return Ok(entry.value.clone());
        }
        let value = make(key)?;
        let mut kept = [0; LONGEST];
        kept[..key.len()].copy_from_slice(key);
        *place = Some(Entry { length: key.len() as u8, key: kept, value: value.clone() });
        Ok(value)
    }
}

/// Returns a number that differs for most keys: whoever makes keys alike makes them slow to get, and nothing else.
fn place(key: &[u8]) -> usize {
    let at = |index: usize| key.get(index).copied().map_or(0, usize::from);
    let end = key.len();
    let letters = [at(0), at(end / 3), at(end / 2), at(end.wrapping_sub(2)), at(end.wrapping_sub(1))];
    letters.into_iter().fold(end, |number, letter| number.wrapping_mul(31) ^ letter)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_always_that_of_its_key(keys in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..70), 0..60)) {
            let mut memo = Memo::<Vec<u8>, 4>::new();
            for key in keys {
                let value = memo.get(&key, |key| Ok::<_, Infallible>(key.to_vec()));
                prop_assert_eq!(value, Ok(key));
            }
        }
    }

    #[test]
    fn a_value_is_made_once_and_a_failure_each_time() {
        let mut memo = Memo::<usize, 8>::new();
        let mut made = 0;
        for _ in 0..3 {
            let mut make = |key: &[u8]| {
                made += 1;
                if key == b"bad" { Err(made) } else { Ok(key.len()) }
            };
            assert_eq!(memo.get(b"good", &mut make), Ok(4));
            assert!(memo.get(b"bad", &mut make).is_err());
        }
        assert_eq!(made, 1 + 3);
    }
}
