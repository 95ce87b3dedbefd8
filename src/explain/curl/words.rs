//! The words of a command, as bash or Windows' command prompt would pass them on. Nothing is expanded.

use super::CurlFault;

/// Splits a command into its words.
///
/// # Errors
/// Fails where a shell would put something else, or where a quotation mark is not closed.
pub(super) fn words(text: &str) -> Result<Vec<String>, CurlFault> {
    let text = text.trim().replace("\r\n", "\n");
    // What Chrome copies for the command prompt quotes with a caret, or ends its lines with one.
    let prompt = text.contains("^\"") || text.contains(" ^\n");
    let mut reader = Reader { rest: &text, words: Vec::new(), word: None };
    while !reader.rest.is_empty() {
        if prompt { reader.prompt()? } else { reader.bash()? }
    }
    reader.end();
    Ok(reader.words)
}

struct Reader<'a> {
    rest: &'a str,
    words: Vec<String>,
    /// The word under way; empty quotation marks make an empty one.
    word: Option<String>,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        Some(letter)
    }

    fn put(&mut self, letter: char) {
        self.word.get_or_insert_default().push(letter);
    }

    fn end(&mut self) {
        self.words.extend(self.word.take());
    }

    fn shell(&self, letter: char) -> CurlFault {
        CurlFault::Shell(std::iter::once(letter).chain(self.rest.chars().take(12)).collect())
    }

    /// Reads the next part in bash's form.
    fn bash(&mut self) -> Result<(), CurlFault> {
        let Some(letter) = self.take() else { return Ok(()) };
        match letter {
            ' ' | '\t' | '\n' => self.end(),
            '\'' => self.single()?,
            '"' => self.double()?,
            '$' if self.rest.starts_with('\'') => {
                self.take();
                self.ansi_c()?;
            }
            '\\' => match self.take() {
                // The line goes on.
                Some('\n') => {}
                Some(next) => self.put(next),
                None => return Err(CurlFault::Open('\\')),
            },
            '$' | '`' | ';' | '|' | '&' | '<' | '>' | '(' | ')' => return Err(self.shell(letter)),
            '#' if self.word.is_none() => return Err(self.shell(letter)),
            letter => self.put(letter),
        }
        Ok(())
    }

    fn single(&mut self) -> Result<(), CurlFault> {
        self.word.get_or_insert_default();
        loop {
            match self.take().ok_or(CurlFault::Open('\''))? {
                '\'' => return Ok(()),
                letter => self.put(letter),
            }
        }
    }

    fn double(&mut self) -> Result<(), CurlFault> {
        self.word.get_or_insert_default();
        loop {
            match self.take().ok_or(CurlFault::Open('"'))? {
                '"' => return Ok(()),
                '\\' => match self.take().ok_or(CurlFault::Open('"'))? {
                    '\n' => {}
                    letter @ ('"' | '\\' | '$' | '`') => self.put(letter),
                    letter => {
                        self.put('\\');
                        self.put(letter);
                    }
                },
                letter @ ('$' | '`') => return Err(self.shell(letter)),
                letter => self.put(letter),
            }
        }
    }

    /// Reads `$'…'`, in which a backslash begins an escape.
    fn ansi_c(&mut self) -> Result<(), CurlFault> {
        self.word.get_or_insert_default();
        loop {
            match self.take().ok_or(CurlFault::Open('\''))? {
                '\'' => return Ok(()),
                '\\' => match self.take().ok_or(CurlFault::Open('\''))? {
                    'n' => self.put('\n'),
                    'r' => self.put('\r'),
                    't' => self.put('\t'),
                    'u' => self.code(4)?,
                    'x' => self.code(2)?,
                    letter => self.put(letter),
                },
                letter => self.put(letter),
            }
        }
    }

    fn code(&mut self, digits: usize) -> Result<(), CurlFault> {
        let end = self.rest.char_indices().take(digits).take_while(|(_, digit)| digit.is_ascii_hexdigit()).count();
        let (code, rest) = self.rest.split_at(end);
        let letter = u32::from_str_radix(code, 16).ok().and_then(char::from_u32).ok_or(CurlFault::Shell(format!("\\u{code}")))?;
        self.rest = rest;
        self.put(letter);
        Ok(())
    }

    /// Reads the next part in the form of the command prompt.
    fn prompt(&mut self) -> Result<(), CurlFault> {
        let Some(letter) = self.take() else { return Ok(()) };
        match letter {
            ' ' | '\t' | '\n' => self.end(),
            '"' => self.prompt_quoted(false)?,
            '^' if self.rest.starts_with('"') => {
                self.take();
                self.prompt_quoted(true)?;
            }
            // The line goes on.
            '^' if self.rest.starts_with('\n') => drop(self.take()),
            '^' => {
                let next = self.take().ok_or(CurlFault::Open('^'))?;
                self.put(next);
            }
            '%' | '&' | '|' | '<' | '>' => return Err(self.shell(letter)),
            letter => self.put(letter),
        }
        Ok(())
    }

    /// Reads a quoted part; with a caret before its quotation mark it ends with the same.
    fn prompt_quoted(&mut self, caret: bool) -> Result<(), CurlFault> {
        self.word.get_or_insert_default();
        loop {
            match self.take().ok_or(CurlFault::Open('"'))? {
                '"' if !caret => return Ok(()),
                '\\' if self.rest.starts_with('"') && !caret => {
                    self.take();
                    self.put('"');
                }
                '\\' if self.rest.starts_with('\\') => {
                    self.take();
                    self.put('\\');
                }
                '^' if caret => match self.take().ok_or(CurlFault::Open('"'))? {
                    '"' => return Ok(()),
                    // A quotation mark within: `^\^"`.
                    '\\' if self.rest.starts_with("^\"") => {
                        self.rest = &self.rest[2..];
                        self.put('"');
                    }
                    '\n' => {
                        // A line break is a caret and two of them.
                        if self.rest.starts_with('\n') {
                            self.take();
                            self.put('\n');
                        }
                    }
                    letter => self.put(letter),
                },
                letter => self.put(letter),
            }
        }
    }
}
