//! What a user can send: the findings without the usual things that tell who the user is.
//!
//! Account ids, key ids, file system ids, access point ids and load balancers' names are cut to what tells them apart, and
//! the home directory's path to `~`. What else a name or an error text holds stays: addresses, other host names, profile
//! names. Secrets do not get here; those in the environment are looked for all the same.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::failure::Failure;

/// Environment variables whose values must not be in a report.
const SECRETS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
const ACCOUNT_DIGITS: usize = 12;

/// Writes the report; nobody else on this machine may read it.
pub fn write(file: &Path, findings: &Value) -> Result<(), Failure> {
    let report = json!({ "program": concat!("s3files-fuse ", env!("CARGO_PKG_VERSION")), "system": system(),
        "findings": redacted(findings) });
    let refuse =
        |error: std::io::Error| Failure::Usage(format!("the report {} cannot be written: {error}", file.display()));
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut whole = tempfile::NamedTempFile::new_in(dir).map_err(refuse)?;
    let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::Other(error.to_string()))?;
    writeln!(whole, "{text}").map_err(refuse)?;
    whole.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(refuse)?;
    whole.persist(file).map_err(|error| refuse(error.error))?;
    Ok(())
}

fn system() -> Value {
    let name = nix::sys::utsname::uname().ok();
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "kernel": name.as_ref().and_then(|name| text(Some(name.release()))),
        "processors": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

/// The same with every text redacted.
fn redacted(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(text)),
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), redacted(value))).collect(),
        other => other.clone(),
    }
}

/// A text without what tells who wrote it.
pub fn redact(text: &str) -> String {
    let mut text = text.to_owned();
    for name in SECRETS {
        if let Some(secret) = std::env::var(name).ok().filter(|secret| secret.len() >= 8) {
            text = text.replace(&secret, "<secret>");
        }
    }
    if let Some(home) = std::env::var("HOME").ok().filter(|home| home.len() > 1) {
        text = text.replace(&home, "~");
    }
    // Words are what identifiers are made of; everything between them stays.
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for char in text.chars().chain([' ']) {
        if char.is_ascii_alphanumeric() || matches!(char, '-' | '_') {
            word.push(char);
        } else {
            out.push_str(&word_without_identity(&word, &text));
            word.clear();
            out.push(char);
        }
    }
    out.pop();
    out
}

fn word_without_identity(word: &str, text: &str) -> String {
    let tail = |word: &str| word[word.len().saturating_sub(4)..].to_owned();
    for prefix in ["fs-", "fsap-", "fsmt-"] {
        if word.strip_prefix(prefix).is_some_and(|id| id.len() >= 17 && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return format!("{prefix}…{}", tail(word));
        }
    }
    let is_key = ["AKIA", "ASIA", "AIDA", "AROA"].iter().any(|prefix| word.starts_with(prefix)) && word.len() >= 16;
    if is_key {
        return format!("{}…{}", &word[..4], tail(word));
    }
    let has_account =
        word.split(['-', '_']).any(|part| part.len() == ACCOUNT_DIGITS && part.bytes().all(|b| b.is_ascii_digit()));
    if has_account {
        return "<account>".to_owned();
    }
    if !word.is_empty() && text.contains(&format!("{word}.elb.")) {
        return "<load-balancer>".to_owned();
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_neither_account_nor_key_nor_file_system() {
        let text = "User: arn:aws:iam::123456789012:user/joe may not; key AKIAIOSFODNN7EXAMPLE, \
                    fs-0123456789abcdef0 at my-nlb-0a1b2c.elb.us-east-1.amazonaws.com:2049, fsap-0123456789abcdef0";
        let out = redact(text);
        for gone in ["123456789012", "AKIAIOSFODNN7EXAMPLE", "0123456789abcdef0", "my-nlb"] {
            assert!(!out.contains(gone), "{gone} is in {out}");
        }
        for kept in ["us-east-1.amazonaws.com:2049", "fs-…def0", "AKIA…MPLE", "arn:aws:iam::<account>"] {
            assert!(out.contains(kept), "{kept} is not in {out}");
        }
    }

    #[test]
    fn what_tells_nothing_stays_as_it_is() {
        for text in ["", "connected to 10.0.0.5:2049 in 31 ms", "12345678901234", "TLSv1_3 – 64 slots"] {
            assert_eq!(redact(text), text);
        }
    }
}
