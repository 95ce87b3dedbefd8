//! The user and the password that a connection begins with.

use std::{fmt, sync::Arc};

use bytes::BufMut as _;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::resp::encode;

/// A user and a password, or a token in place of one.
#[derive(Clone)]
pub struct Login {
    /// The user; `None` for the default one.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Arc<SecretString>,
}

/// The source of the current login, which may change while the gateway runs.
pub trait Logins: fmt::Debug + Send + Sync {
    /// Returns the current login; `None` where the server asks for none. Must not block.
    ///
    /// # Errors
    /// Returns the reason, in words, why there is none at the moment.
    fn current(&self) -> Result<Option<Login>, Box<str>>;
}

impl Login {
    /// Returns whether both are the same.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let same =
            Arc::ptr_eq(&self.password, &other.password) || self.password.expose_secret() == other.password.expose_secret();
        same && self.user == other.user
    }

    /// Returns the command that sends it.
    pub(crate) fn command(&self) -> Zeroizing<Vec<u8>> {
        let password = self.password.expose_secret().as_bytes();
        let mut command = Zeroizing::new(Vec::with_capacity(password.len() + 256));
        let user = self.user.as_deref().map(str::as_bytes);
        let parts: Vec<&[u8]> = [Some(&b"AUTH"[..]), user, Some(password)].into_iter().flatten().collect();
        encode(parts.into_iter(), &mut (&mut *command).limit(usize::MAX));
        command
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_sent_with_or_without_a_user_and_shown_to_nobody() {
        let login = |user: Option<&str>| Login { user: user.map(Into::into), password: Arc::new("hunter2".into()) };

        assert_eq!(&**login(None).command(), b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n");
        assert_eq!(&**login(Some("entrada")).command(), b"*3\r\n$4\r\nAUTH\r\n$7\r\nentrada\r\n$7\r\nhunter2\r\n");
        assert!(!format!("{:?}", login(None)).contains("hunter2"));
        assert!(login(None).same_as(&login(None)) && !login(None).same_as(&login(Some("entrada"))));
    }
}
