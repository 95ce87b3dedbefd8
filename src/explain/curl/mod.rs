//! Requests from a curl command, as browsers copy it and people write it. Nothing of it is ever run.

mod words;

use bytes::Bytes;

use self::words::words;

/// The request that a curl command describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// Whether HTTP/2 is asked for.
    pub http2: bool,
    /// The file of the client's certificate.
    pub certificate: Option<String>,
    /// The parts that were left out, and the reasons.
    pub notes: Vec<String>,
}

/// The reason why a command is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurlFault {
    /// The command has another name, or none.
    #[error("the command is not curl, but `{0}`")]
    NotCurl(String),
    /// A quotation mark is not closed.
    #[error("the quotation mark {0} is not closed")]
    Open(char),
    /// A shell would put something else there.
    #[error("`{0}` is for the shell, which is not run here; write what it stands for")]
    Shell(String),
    /// An option that is not known.
    #[error("the option `{0}` is not known here: whether it takes an argument decides what the rest means; leave it out")]
    Unknown(String),
    /// An option that makes another request of it.
    #[error("the option `{0}` makes another request of it than one that can be explained: {1}")]
    Refused(String, &'static str),
    /// An option without its argument.
    #[error("the option `{0}` has no argument")]
    NoArgument(String),
    /// A body from a file.
    #[error("`{0}` names a file, which is not read here; write its content, or leave it out")]
    File(String),
    /// There is no URL, or there are several.
    #[error("the command has {0} URLs; an explanation is about one")]
    Urls(usize),
}

/// The meaning of an option here.
enum Meaning {
    /// It is about the way of the request, and not about what it says.
    Ignored,
    /// The same, with an argument.
    IgnoredArgument,
    /// Something else.
    Other,
}

/// The state while the options are read.
#[derive(Default)]
struct Reading {
    described: Described,
    method: Option<String>,
    urls: Vec<String>,
    data: Vec<String>,
    query: Vec<String>,
    form: bool,
    json: bool,
    into_query: bool,
    head: bool,
}

/// Reads a curl command, in the form of bash or of Windows' command prompt.
///
/// # Errors
/// Fails where it cannot be known which request the command would make.
pub fn curl(text: &str) -> Result<Described, CurlFault> {
    let mut words = words(text)?.into_iter();
    let name = words.next().unwrap_or_default();
    if !matches!(name.rsplit(['/', '\\']).next(), Some("curl" | "curl.exe")) {
        return Err(CurlFault::NotCurl(name));
    }
    let mut reading = Reading::default();
    let mut only_urls = false;
    while let Some(word) = words.next() {
        if only_urls || !word.starts_with('-') || word == "-" {
            reading.urls.push(word);
        } else if word == "--" {
            only_urls = true;
        } else if word.starts_with("--") {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut argument = || value.clone().or_else(|| words.next()).ok_or_else(|| CurlFault::NoArgument(name.clone()));
            reading.option(&name, &mut argument)?;
        } else {
            short_options(&word, &mut words, &mut reading)?;
        }
    }
    reading.finish()
}

/// Reads a group of short options, of which the last may have an argument: `-sXPOST`.
fn short_options(word: &str, words: &mut impl Iterator<Item = String>, reading: &mut Reading) -> Result<(), CurlFault> {
    let mut rest = &word[1..];
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let name = format!("-{letter}");
        let mut taken = false;
        let attached = rest.to_owned();
        let mut argument = || {
            taken = true;
            if attached.is_empty() { words.next() } else { Some(attached.clone()) }
                .ok_or_else(|| CurlFault::NoArgument(name.clone()))
        };
        reading.option(&name, &mut argument)?;
        if taken {
            return Ok(());
        }
    }
    Ok(())
}

fn meaning(name: &str) -> Meaning {
    match name {
        "-s"
        | "--silent"
        | "-S"
        | "--show-error"
        | "-v"
        | "--verbose"
        | "-i"
        | "--include"
        | "--show-headers"
        | "-k"
        | "--insecure"
        | "-L"
        | "--location"
        | "-f"
        | "--fail"
        | "--fail-with-body"
        | "--compressed"
        | "--cert-status"
        | "-N"
        | "--no-buffer"
        | "-#"
        | "--progress-bar"
        | "--no-progress-meter"
        | "-4"
        | "--ipv4"
        | "-6"
        | "--ipv6"
        | "--globoff"
        | "-g"
        | "--path-as-is"
        | "--tlsv1.2"
        | "--tlsv1.3"
        | "-O"
        | "--remote-name"
        | "-q"
        | "--disable" => Meaning::Ignored,
        "-o" | "--output" | "-m" | "--max-time" | "--connect-timeout" | "--retry" | "--retry-delay" | "--resolve"
        | "--connect-to" | "-w" | "--write-out" | "-D" | "--dump-header" | "--cacert" | "--key" | "-c" | "--cookie-jar"
        | "--retry-max-time" => Meaning::IgnoredArgument,
        _ => Meaning::Other,
    }
}

impl Reading {
    fn option(&mut self, name: &str, argument: &mut dyn FnMut() -> Result<String, CurlFault>) -> Result<(), CurlFault> {
        match meaning(name) {
            Meaning::Ignored => return Ok(()),
            Meaning::IgnoredArgument => return argument().map(drop),
            Meaning::Other => {}
        }
        match name {
            "-X" | "--request" => self.method = Some(argument()?),
            "-H" | "--header" => self.header(&argument()?)?,
            "--url" => self.urls.push(argument()?),
            "-d" | "--data" | "--data-ascii" | "--data-binary" => {
                let data = argument()?;
                if data.starts_with('@') {
                    return Err(CurlFault::File(data));
                }
                self.data.push(data);
                self.form = true;
            }
            "--data-raw" => {
                self.data.push(argument()?);
                self.form = true;
            }
            "--data-urlencode" => {
                let data = encoded(&argument()?)?;
                self.data.push(data);
                self.form = true;
            }
            "--json" => {
                let data = argument()?;
                if data.starts_with('@') {
                    return Err(CurlFault::File(data));
                }
                self.data.push(data);
                self.json = true;
            }
            "-F" | "--form" | "--form-string" => {
                argument()?;
                self.described.notes.push("the fields of the form are left out: bodies are not judged".to_owned());
                self.described.headers.push(("Content-Type".to_owned(), b"multipart/form-data; boundary=left-out".to_vec()));
                self.method.get_or_insert_with(|| "POST".to_owned());
            }
            "-G" | "--get" => self.into_query = true,
            "--url-query" => {
                let parameter = argument()?;
                self.query.push(match parameter.strip_prefix('+') {
                    Some(raw) => raw.to_owned(),
                    None => encoded(&parameter)?,
                });
            }
            "-I" | "--head" => self.head = true,
            "-u" | "--user" => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let value = format!("Basic {}", STANDARD.encode(argument()?));
                self.described.headers.push(("Authorization".to_owned(), value.into_bytes()));
            }
            "--oauth2-bearer" => {
                let value = format!("Bearer {}", argument()?);
                self.described.headers.push(("Authorization".to_owned(), value.into_bytes()));
            }
            "-b" | "--cookie" => {
                let cookies = argument()?;
                if !cookies.contains('=') {
                    return Err(CurlFault::File(cookies));
                }
                self.described.headers.push(("Cookie".to_owned(), cookies.into_bytes()));
            }
            "-A" | "--user-agent" => {
                let value = argument()?;
                self.described.headers.push(("User-Agent".to_owned(), value.into_bytes()));
            }
            "-e" | "--referer" => {
                let value = argument()?;
                self.described.headers.push(("Referer".to_owned(), value.into_bytes()));
            }
            "--http1.1" | "--http1.0" | "-0" => self.described.http2 = false,
            "--http2" | "--http2-prior-knowledge" => self.described.http2 = true,
            "-E" | "--cert" => {
                let file = argument()?;
                self.described.certificate = Some(file.split(':').next().unwrap_or(&file).to_owned());
            }
            "-x" | "--proxy" | "--preproxy" | "--socks5" | "--socks5-hostname" => {
                return Err(CurlFault::Refused(name.to_owned(), "the proxy is another peer; say with --from which one connects"));
            }
            "-:" | "--next" => return Err(CurlFault::Refused(name.to_owned(), "there are several requests")),
            "-K" | "--config" => return Err(CurlFault::Refused(name.to_owned(), "the options are in a file")),
            "-T" | "--upload-file" => return Err(CurlFault::Refused(name.to_owned(), "the body is in a file; use -X PUT")),
            _ => return Err(CurlFault::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Reads a field: `Name: value`; `Name;` is an empty one, and `Name:` takes out what curl would send by itself.
    fn header(&mut self, text: &str) -> Result<(), CurlFault> {
        if text.starts_with('@') {
            return Err(CurlFault::File(text.to_owned()));
        }
        if let Some((name, value)) = text.split_once(':') {
            if value.trim().is_empty() {
                self.described.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            } else {
                self.described.headers.push((name.trim().to_owned(), value.trim().as_bytes().to_vec()));
            }
        } else if let Some(name) = text.strip_suffix(';') {
            self.described.headers.push((name.trim().to_owned(), Vec::new()));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Described, CurlFault> {
        let [url] = self.urls.as_slice() else { return Err(CurlFault::Urls(self.urls.len())) };
        // Without a scheme curl takes http.
        let mut url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        // A backslash keeps curl from taking brackets for a list of URLs.
        for bracket in ['[', ']', '{', '}'] {
            url = url.replace(&format!("\\{bracket}"), &bracket.to_string());
        }
        if self.into_query {
            self.query.append(&mut self.data);
        }
        if !self.query.is_empty() {
            let joint = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{joint}{}", self.query.join("&"));
        }
        let has_data = !self.data.is_empty();
        self.described.method = match self.method {
            Some(method) => method,
            None if self.head => "HEAD".to_owned(),
            None if has_data => "POST".to_owned(),
            None => "GET".to_owned(),
        };
        let has = |headers: &[(String, Vec<u8>)], name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut add = |name: &str, value: &str| {
            if !has(&self.described.headers, name) {
                self.described.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
        };
        if self.json {
            add("Content-Type", "application/json");
            add("Accept", "application/json");
        } else if has_data && self.form {
            add("Content-Type", "application/x-www-form-urlencoded");
        }
        add("Accept", "*/*");
        self.described.body = Bytes::from(self.data.join("&"));
        self.described.url = url;
        Ok(self.described)
    }
}

/// Encodes data as curl does: `content`, `=content`, `name=content`; `@file` is not read.
fn encoded(data: &str) -> Result<String, CurlFault> {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
    match data.find(['=', '@']) {
        Some(at) if data.as_bytes()[at] == b'@' => Err(CurlFault::File(data.to_owned())),
        Some(0) => Ok(encode(&data[1..])),
        Some(at) => Ok(format!("{}={}", &data[..at], encode(&data[at + 1..]))),
        None => Ok(encode(data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(described: &'a Described, name: &str) -> Option<&'a str> {
        let (_, value) = described.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    #[test]
    fn the_method_follows_from_the_options() {
        for (command, method, url, body) in [
            ("curl https://a.example/x", "GET", "https://a.example/x", ""),
            ("curl -I https://a.example/x", "HEAD", "https://a.example/x", ""),
            ("curl https://a.example/x -d a=b -d c", "POST", "https://a.example/x", "a=b&c"),
            ("curl -G https://a.example/x?y -d a=b", "GET", "https://a.example/x?y&a=b", ""),
            ("curl -sSXPUT --url https://a.example/x --data-raw @a", "PUT", "https://a.example/x", "@a"),
            ("curl --data-urlencode 'q=a b&c' a.example", "POST", "http://a.example", "q=a%20b%26c"),
            ("curl --request=DELETE -- https://a.example/x", "DELETE", "https://a.example/x", ""),
            ("curl --json '{\"a\":1}' https://a.example/x", "POST", "https://a.example/x", "{\"a\":1}"),
        ] {
            let described = curl(command).unwrap_or_else(|fault| panic!("{command}: {fault}"));
            assert_eq!((&*described.method, &*described.url), (method, url), "{command}");
            assert_eq!(described.body, body.as_bytes(), "{command}");
        }
    }

    #[test]
    fn what_a_browser_copies_for_bash_is_read() {
        let described = curl(
            "curl 'https://api.contoso.example/orders/\\[17\\]' \\\n  -H 'accept: application/json' \\\n  -H 'authorization: Bearer a.b.c' \\\n  -b 'a=b; c=d' \\\n  --data-raw $'it\\'s \\u0021\\n' \\\n  --compressed --insecure",
        )
        .unwrap();

        assert_eq!(described.url, "https://api.contoso.example/orders/\\[17\\]".replace('\\', ""));
        assert_eq!(field(&described, "authorization"), Some("Bearer a.b.c"));
        assert_eq!(field(&described, "cookie"), Some("a=b; c=d"));
        assert_eq!(described.body, "it's !\n".as_bytes());
        assert_eq!(described.method, "POST");
    }

    #[test]
    fn what_a_browser_copies_for_the_command_prompt_is_read() {
        let described = curl(
            "curl ^\"https://api.contoso.example/orders?a=1^&b=^%^41^\" ^\n  -H ^\"accept: text/html^\" ^\n  -H ^\"x-quoted: ^\\^\"yes^\\^\"^\" ^\n  --compressed",
        )
        .unwrap();

        assert_eq!(described.url, "https://api.contoso.example/orders?a=1&b=%41");
        assert_eq!(field(&described, "x-quoted"), Some("\"yes\""));
    }

    #[test]
    fn what_could_be_another_request_is_refused() {
        for (command, part) in [
            ("wget https://a.example", "not curl"),
            ("curl", "0 URLs"),
            ("curl https://a.example https://b.example", "2 URLs"),
            ("curl https://a.example --next https://b.example", "several requests"),
            ("curl https://a.example --frobnicate x", "not known"),
            ("curl https://a.example -d @body.json", "names a file"),
            ("curl https://a.example -H @headers", "names a file"),
            ("curl https://a.example -x http://proxy.example:3128", "another peer"),
            ("curl \"https://a.example/$(id)\"", "for the shell"),
            ("curl https://a.example/`id`", "for the shell"),
            ("curl -H \"Authorization: Bearer $TOKEN\" https://a.example", "for the shell"),
            ("curl https://a.example; id", "for the shell"),
            ("curl https://a.example | sh", "for the shell"),
            ("curl 'https://a.example", "not closed"),
            ("curl https://a.example -H", "no argument"),
        ] {
            let fault = curl(command).expect_err(command).to_string();
            assert!(fault.contains(part), "{command}: {fault}");
        }
    }
}
