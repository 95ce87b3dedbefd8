//! A slot of a connection, for a value of another layer.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

/// A slot for one value that another layer keeps with a connection, and that is dropped with it. An empty slot costs nothing.
#[derive(Debug, Default)]
pub struct Slot(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Slot {
    /// Returns the value, if there is one of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }

    /// Returns the value, and creates it first in an empty slot. `None` if the slot holds one of another type.
    pub fn get_or_default<T: Any + Default + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.get_or_init(|| Arc::new(T::default())).clone().downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_one_value_of_one_type() {
        let slot = Slot::default();
        assert_eq!(slot.get::<u8>(), None);

        let first = slot.get_or_default::<u8>().expect("it was empty");
        assert!(Arc::ptr_eq(&first, &slot.get_or_default().expect("the same")));
        assert_eq!((slot.get::<u8>(), slot.get::<u16>()), (Some(&0), None));
        assert_eq!(slot.get_or_default::<u16>(), None);
    }
}
