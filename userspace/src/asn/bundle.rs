//! A database in one signed file, for routers that fetch nothing themselves.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "kordonBN"
//!      8     4  version
//!     12    32  public key of who signed it
//!     44        a snapshot, compressed with zstd
//!    -64    64  Ed25519 signature (RFC 8032) of everything before it
//! ```
//!
//! Nothing behind the magic is believed before the signature is checked, with a key
//! that the administrator has configured: the key in the file only says which.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use tempfile::NamedTempFile;

use super::import::ImportError;
use super::model::AsnDb;
use super::snapshot;
use super::{Options, open_with};
use crate::diagnostic::{Diagnostic, Diagnostics, Problem};
use crate::regular;

const MAGIC: &[u8; 8] = b"kordonBN";
const VERSION: u32 = 1;
const HEADER: usize = 44;
const SIGNATURE: usize = 64;
/// Longest bundle, and longest snapshot in one, bytes.
const LONGEST: u64 = 1 << 30;
/// What keys begin with in text.
const ALGORITHM: &str = "ed25519:";
/// What the file of a secret key begins with.
const SECRET: &str = "ed25519-secret:";

/// Whose bundles are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ALGORITHM}{}", hex::encode(self.0))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.strip_prefix(ALGORITHM).and_then(unhex);
        let bytes = bytes.ok_or("a public key is `ed25519:` and 64 hexadecimal digits")?;
        VerifyingKey::from_bytes(&bytes).map_err(|_| "these digits are no Ed25519 key")?;
        Ok(Self(bytes))
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Problem + 'a {
    move |error| {
        let message = format!("cannot {operation} `{}`: {error}", path.display());
        Problem::new(message, "check the path and its permissions")
    }
}

/// Whether a file begins like a bundle.
#[must_use]
pub fn is_bundle(path: &Path) -> bool {
    regular::starts_with(path, MAGIC)
}

/// Makes a key: the secret one in a new file that only its owner may read.
///
/// # Errors
///
/// When the file is there already or cannot be written.
pub fn keygen(path: &Path) -> Result<PublicKey, Problem> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|e| io_error("make a key for", path)(io::Error::other(e.to_string())))?;
    let key = SigningKey::from_bytes(&secret);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("make", path))?;
    writeln!(file, "{SECRET}{}", hex::encode(secret))
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", path))?;
    Ok(PublicKey(key.verifying_key().to_bytes()))
}

fn secret_key(path: &Path) -> Result<SigningKey, Problem> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let secret = text.trim().strip_prefix(SECRET).and_then(unhex);
    let secret = secret.ok_or_else(|| {
        let message = format!("`{}` is no secret key", path.display());
        Problem::new(message, "`kordon asndb keygen FILE` makes one")
    })?;
    Ok(SigningKey::from_bytes(&secret))
}

/// Writes a database as a bundle, in one step. Returns the key that checks it.
///
/// # Errors
///
/// When the key cannot be read or the file not written.
pub fn export(db: &AsnDb, path: &Path, key: &Path) -> Result<PublicKey, Problem> {
    let key = secret_key(key)?;
    let public = PublicKey(key.verifying_key().to_bytes());
    let write = || {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&public.0);
        zstd::stream::copy_encode(snapshot::encode(db).as_slice(), &mut bytes, 9)?;
        let signature = key.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut file = NamedTempFile::with_prefix_in(".new-", folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(io_error("write", path))?;
    Ok(public)
}

/// Reads a bundle that one of `trusted` has signed.
///
/// # Errors
///
/// When it is anything else.
pub fn read(path: &Path, trusted: &[PublicKey]) -> Result<AsnDb, Problem> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut bytes = Vec::new();
    file.take(LONGEST)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    decode(&bytes, path, trusted)
}

fn decode(bytes: &[u8], file: &Path, trusted: &[PublicKey]) -> Result<AsnDb, Problem> {
    let path = file.display();
    if !bytes.starts_with(MAGIC) {
        return Err(Problem::new(
            format!("`{path}` is not a bundle of kordon"),
            "`kordon asndb export` makes one",
        ));
    }
    let truncated = || {
        let message = format!("bundle `{path}` is cut short");
        Problem::new(message, "copy it again, whole")
    };
    let (signed, signature) = bytes
        .split_last_chunk::<SIGNATURE>()
        .filter(|(signed, _)| signed.len() > HEADER)
        .ok_or_else(truncated)?;
    let (head, content) = signed.split_at(HEADER);
    let version = head[8..12].try_into().map_err(|_| truncated())?;
    let found = u32::from_le_bytes(version);
    if found != VERSION {
        return Err(Problem::new(
            format!("bundle `{path}` has version {found}, this kordon reads version {VERSION}"),
            "make it with the kordon of this router's version",
        ));
    }
    let key = PublicKey(head[12..].try_into().map_err(|_| truncated())?);
    if !trusted.contains(&key) {
        return Err(Problem::new(
            format!("bundle `{path}` is signed with {key}, which is not trusted here"),
            "if you trust whoever holds that key, add it to `keys` in `[asndb]`",
        ));
    }
    VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(signed, &Signature::from_bytes(signature)))
        .map_err(|_| {
            Problem::new(
                format!("the signature of bundle `{path}` is wrong: it was changed, cut short or never signed"),
                "copy it again from where it was made; if that does not help, do not use it",
            )
        })?;
    let mut snapshot = Vec::new();
    zstd::Decoder::new(content)
        .and_then(|decoder| decoder.take(LONGEST).read_to_end(&mut snapshot))
        .map_err(io_error("decompress", file))?;
    snapshot::decode(&snapshot, file).map_err(|error| {
        Problem::new(
            format!("bundle `{path}` was signed and cannot be used: {error}"),
            "export it again, with the kordon of this router's version",
        )
    })
}

/// As [`open_with`], where one bundle may stand for all sources.
///
/// # Errors
///
/// As [`open_with`]; a bundle beside other files, or one that is not trusted.
pub fn open_trusted(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
    options: &Options,
    trusted: &[PublicKey],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let Some(bundle) = asn_files.iter().find(|file| is_bundle(file)) else {
        return open_with(asn_files, country_files, options);
    };
    let file = bundle.display().to_string();
    let refused = |message: String, help: &str| Diagnostic::of_file(&file, message, help).into();
    if asn_files.len() + country_files.len() > 1 {
        return Err(refused(
            "a bundle cannot be combined with other databases".to_owned(),
            "give the bundle alone: it has its sources folded in",
        ));
    }
    match read(bundle, trusted) {
        Ok(db) => Ok((db, Diagnostics::default())),
        Err(problem) => Err(refused(problem.message, &problem.help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_by_a_trusted_key() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (mine, other) = (keygen(&at("mine")).unwrap(), keygen(&at("other")).unwrap());
        assert_ne!(mine, other);
        assert_eq!(mine.to_string().parse(), Ok(mine));
        assert!(keygen(&at("mine")).is_err(), "a key is not overwritten");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(at("mine")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);

        let (db, _) =
            crate::asn::tests::import_texts(&["198.51.100.0,198.51.100.255,64500,Bad\n"], &[])
                .unwrap();
        let path = at("bundle");
        assert_eq!(export(&db, &path, &at("mine")).unwrap(), mine);
        assert_eq!(read(&path, &[other, mine]).unwrap(), db);
        let error = read(&path, &[other]).unwrap_err();
        assert!(error.to_string().contains(&mine.to_string()), "{error}");
        assert!(read(&path, &[]).is_err());

        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(decode(&changed, &path, &[mine]).is_err(), "byte {at}");
            assert!(decode(&whole[..at], &path, &[mine]).is_err(), "cut at {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(decode(&longer, &path, &[mine]).is_err());
        // Somebody else's signature over it, with our key's name in the header.
        let mut unsigned = whole[..whole.len() - SIGNATURE].to_vec();
        unsigned.extend_from_slice(&[0; SIGNATURE]);
        let error = decode(&unsigned, &path, &[mine]).unwrap_err();
        assert!(error.message.starts_with("the signature of"), "{error}");
    }

    #[test]
    fn keys_in_text() {
        let signs = format!("ed25519:{}", "+1".repeat(32));
        for wrong in ["", "ed25519:", "ed25519:zz", "rsa:00", signs.as_str()] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }
}
