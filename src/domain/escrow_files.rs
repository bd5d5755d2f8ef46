//! Files that come with a dispute: how many, how large, and what they really are.
//!
//! The rule: a file's kind is told by its first bytes and never by what the browser says or by its
//! name; a kind that is not listed is refused. A name is kept for people only, cut to letters that
//! cannot do anything in a header, a path or a page.

/// Most files with one dispute.
pub const FILES_MAX: usize = 3;

/// Most bytes in one file: a photograph from a telephone, made smaller, or some pages of a PDF.
pub const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most characters of a file's name that are kept.
const FILE_NAME_CHARS_MAX: usize = 100;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A picture.
    Png,
    /// A picture.
    Jpeg,
    /// A picture.
    Webp,
    /// A document.
    Pdf,
}

impl FileKind {
    /// Every kind that is taken.
    pub const ALL: [Self; 4] = [Self::Png, Self::Jpeg, Self::Webp, Self::Pdf];

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
        }
    }

    /// Reads a media type.
    pub fn parse(content_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.content_type() == content_type)
    }

    /// Tells a kind by the first bytes: the signatures of PNG (RFC 2083), JPEG (ISO 10918-1), WebP (RFC 9649) and PDF
    /// (ISO 32000-2).
    pub fn of(content: &[u8]) -> Option<Self> {
        if content.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if content.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WEBP") {
            Some(Self::Webp)
        } else if content.starts_with(b"%PDF-") {
            Some(Self::Pdf)
        } else {
            None
        }
    }

    /// The ending that its name gets.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Pdf => "pdf",
        }
    }
}

/// A file's name made harmless: ASCII letters, digits, `-` and `_`, with the ending of what it is.
pub fn safe_file_name(name: &str, kind: FileKind) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let safe: String = stem
        .chars()
        .take(FILE_NAME_CHARS_MAX)
        .map(|letter| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '_' })
        .collect();
    let stem = if safe.trim_matches('_').is_empty() { "file" } else { safe.as_str() };
    format!("{stem}.{}", kind.ending())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_content_and_a_name_does_no_harm() {
        for (content, kind) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Some(FileKind::Png)),
            (b"\xff\xd8\xff\xe0rest", Some(FileKind::Jpeg)),
            (b"RIFF\x00\x00\x00\x00WEBPVP8 ", Some(FileKind::Webp)),
            (b"%PDF-1.7\n", Some(FileKind::Pdf)),
            (b"<html>%PDF-", None),
            (b"RIFF\x00\x00\x00\x00WAVE", None),
            (b"GIF89a", None),
            (b"", None),
        ] {
            assert_eq!(FileKind::of(content), kind, "{content:?}");
        }
        for (name, safe) in [
            ("photo 1.jpeg", "photo_1.png"),
            ("../../etc/passwd", "passwd.png"),
            ("C:\\x\\evil.html", "evil.png"),
            ("a\"\r\nX: y.svg", "a___X__y.png"),
            ("", "file.png"),
            ("\u{202e}", "file.png"),
        ] {
            assert_eq!(safe_file_name(name, FileKind::Png), safe);
        }
    }
}
