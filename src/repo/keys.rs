//! Key files, recipients and identities (docs/FORMAT.md sections 3.3 and 11).

use std::fmt::Write as _;
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519;
use zeroize::Zeroizing;

use crate::model::id::{from_hex, to_hex};
use crate::model::{Error, ErrorKind, PartyId, RepositoryId, Result, Secret};
use crate::ports::Entropy;

use super::cbor;
use super::format::KeyRequestBody;
use super::seal;
use super::sign::{Envelope, Kind, PublicKey, ROOT, SignKey};

const PARTY: &str = "# muster-party: ";
const SIGNING: &str = "# muster-signing-key: ";
const ROOT_KEY: &str = "# muster-root-key: ";

/// A backup or drill host's own keys.
pub struct HostKeys {
    /// Signs what the host writes.
    pub sign: SignKey,
    /// Opens metadata epochs.
    pub identity: x25519::Identity,
}

impl HostKeys {
    /// Fresh keys.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        let mut party = [0; 8];
        entropy.fill(&mut party)?;
        Ok(Self { sign: new_sign_key(PartyId(party), entropy)?, identity: x25519::Identity::generate() })
    }

    /// Fresh keys for the same party.
    pub fn renewed(&self, entropy: &dyn Entropy) -> Result<Self> {
        Ok(Self { sign: new_sign_key(self.sign.party(), entropy)?, identity: x25519::Identity::generate() })
    }

    /// The key file's text.
    pub fn to_file(&self, title: &str) -> Secret<String> {
        let mut text = format!("# Muster: {title}\n# Keep this file secret; it stays on its host.\n");
        let _ = writeln!(text, "{PARTY}{}", self.sign.party());
        let _ = writeln!(text, "{SIGNING}{}", to_hex(&self.sign.seed()[..]));
        let _ = writeln!(text, "# public key: {}", self.identity.to_public());
        let _ = writeln!(text, "{}", self.identity.to_string().expose_secret());
        Secret::new(text)
    }

    /// Reads a key file.
    pub fn parse(text: &Secret<String>) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Config, "read this host's keys", why)
                .hint("the file is the one that `muster init` or `muster key request` wrote")
        };
        let text = text.expose();
        let party = tagged(text, PARTY).ok_or_else(|| bad("there is no party line"))?;
        let party: PartyId = party.parse().map_err(|_| bad("the party line is not an id"))?;
        let seed = tagged(text, SIGNING).ok_or_else(|| bad("there is no signing key line"))?;
        let seed = Zeroizing::new(
            from_hex(seed).ok_or_else(|| bad("the signing key is not 64 hexadecimal digits"))?,
        );
        let identity = text
            .lines()
            .find_map(|line| x25519::Identity::from_str(line.trim()).ok())
            .ok_or_else(|| bad("there is no AGE-SECRET-KEY-1 line"))?;
        Ok(Self { sign: SignKey::new(party, &seed), identity })
    }
}

fn tagged<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(tag)).map(str::trim)
}

fn new_sign_key(party: PartyId, entropy: &dyn Entropy) -> Result<SignKey> {
    let mut seed = Zeroizing::new([0; 32]);
    entropy.fill(&mut seed[..])?;
    Ok(SignKey::new(party, &seed))
}

/// What the recovery kit holds: the root key and a recovery identity.
pub struct RecoveryKit {
    /// Signs configurations.
    pub root: SignKey,
    /// Opens every epoch.
    pub identity: x25519::Identity,
}

impl RecoveryKit {
    /// Fresh keys.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        Ok(Self { root: new_sign_key(ROOT, entropy)?, identity: x25519::Identity::generate() })
    }

    /// The kit's text: an age identity file.
    pub fn to_file(&self, repository: &RepositoryId, store: &str, made: &str) -> Secret<String> {
        self.to_file_with(repository, store, &[], made)
    }

    /// The same for a store of which its address does not say all: `settings` are the lines of a table
    /// `[repository.s3]` that a new machine needs. They hold no secret.
    pub fn to_file_with(
        &self,
        repository: &RepositoryId,
        store: &str,
        settings: &[String],
        made: &str,
    ) -> Secret<String> {
        let root = self.root.public();
        let settings = match settings {
            [] => String::new(),
            lines => {
                let lines: String = lines.iter().map(|line| format!("#   {line}\n")).collect();
                format!(
                    "#   [repository.s3]\n{lines}# The keys of the bucket are not here: give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n"
                )
            }
        };
        let mut text = format!(
            "# Muster recovery kit\n\
             # repository {repository}, made {made}\n\
             # store: {store}\n\
             #\n\
             # Whoever has this file can read every backup and change who may write them.\n\
             # Without it nothing can be restored. Move it away from this machine: a printed copy in a\n\
             # safe, a password manager, an encrypted stick. Keep two copies in two places.\n\
             #\n\
             # To restore on a new machine, write these lines to muster.toml (less the #):\n\
             #   version = 1\n\
             #   [repository]\n\
             #   store = \"{store}\"\n\
             #   root = \"{root}\"\n\
             {settings}\
             # and run: muster --identity file:THIS_FILE restore latest --to DIR\n\
             # Or, with no Muster at all: docs/FORMAT.md, section 12 (this file works with `age -i`).\n\
             #\n"
        );
        let _ = writeln!(text, "# root public key: {}", self.root.public());
        let _ = writeln!(text, "{ROOT_KEY}{}", to_hex(&self.root.seed()[..]));
        let _ = writeln!(text, "# public key: {}", self.identity.to_public());
        let _ = writeln!(text, "{}", self.identity.to_string().expose_secret());
        Secret::new(text)
    }
}

/// Identities given for one command: they open epochs, and may bring the root key.
#[derive(Default)]
pub struct Identities {
    /// The root key, where a file had one.
    pub root: Option<SignKey>,
    ages: Vec<Box<dyn age::Identity>>,
    publics: Vec<String>,
}

impl Identities {
    /// Adds what a file holds: an age identity file (keys, plugin identities), a recovery kit, an SSH
    /// private key, or any of these sealed with a passphrase. Questions go to `callbacks`.
    pub fn add_file<C: age::Callbacks>(
        &mut self,
        bytes: &Secret<Vec<u8>>,
        name: &str,
        callbacks: C,
    ) -> Result<()> {
        let bad = |why: String| {
            Error::new(ErrorKind::Config, "read the identity", why)
                .on(name.to_owned())
                .hint("give the recovery kit, an age identity file, or an SSH private key")
        };
        let bytes = bytes.expose();
        if bytes.starts_with(b"age-encryption.org/")
            || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
        {
            let inner = open_protected(bytes, name, &callbacks)?;
            return self.add_file(&inner, name, callbacks);
        }
        if bytes.starts_with(b"-----BEGIN ") {
            let identity = age::ssh::Identity::from_buffer(&bytes[..], Some(name.to_owned()))
                .map_err(|e| bad(e.to_string()))?;
            if let age::ssh::Identity::Unsupported(_) = identity {
                return Err(bad("this kind of SSH key cannot decrypt".to_owned()));
            }
            self.ages.push(Box::new(identity.with_callbacks(callbacks)));
            return Ok(());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text".to_owned()))?;
        self.add_text(text, name, &callbacks)
    }

    fn add_text<C: age::Callbacks>(&mut self, text: &str, name: &str, callbacks: &C) -> Result<()> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Config, "read the identity", why)
                .on(name.to_owned())
                .hint("give the recovery kit, an age identity file, or an SSH private key")
        };
        if let Some(seed) = tagged(text, ROOT_KEY) {
            let seed = Zeroizing::new(
                from_hex(seed).ok_or_else(|| bad("its root key is not 64 hexadecimal digits"))?,
            );
            self.root = Some(SignKey::new(ROOT, &seed));
        }
        let mut found = 0;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Ok(identity) = x25519::Identity::from_str(line) {
                self.publics.push(identity.to_public().to_string());
                self.ages.push(Box::new(identity));
            } else if let Ok(plugin) = age::plugin::Identity::from_str(line) {
                let opened = age::plugin::IdentityPluginV1::new(
                    plugin.plugin(),
                    std::slice::from_ref(&plugin),
                    callbacks.clone(),
                )
                .map_err(|e| bad(&e.to_string()))?;
                self.ages.push(Box::new(opened));
            } else {
                // The line itself may be a damaged secret: never repeat it.
                return Err(bad("a line of it is not an age identity"));
            }
            found += 1;
        }
        if found == 0 { Err(bad("there is no identity in it")) } else { Ok(()) }
    }

    /// Adds a passphrase, for recipients of that kind.
    pub fn add_passphrase(&mut self, passphrase: &Secret<String>) {
        let secret = SecretString::from(passphrase.expose().clone());
        self.ages.push(Box::new(age::scrypt::Identity::new(secret)));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ages.is_empty()
    }

    /// Whether the private half of this X25519 recipient is among them. Of other kinds of key it
    /// cannot be told without asking for them.
    pub fn has(&self, recipient: &str) -> bool {
        self.publics.iter().any(|public| public == recipient)
    }

    /// Borrowed, for opening.
    pub fn as_refs(&self) -> Vec<&dyn age::Identity> {
        self.ages.iter().map(|i| &**i).collect()
    }
}

fn open_protected<C: age::Callbacks>(bytes: &[u8], name: &str, callbacks: &C) -> Result<Secret<Vec<u8>>> {
    use std::io::Read;
    let bad =
        |why: String| Error::new(ErrorKind::WrongKey, "open the protected identity", why).on(name.to_owned());
    let decryptor =
        age::Decryptor::new(age::armor::ArmoredReader::new(bytes)).map_err(|e| bad(e.to_string()))?;
    if !decryptor.is_scrypt() {
        return Err(bad("it is sealed to a key, not to a passphrase".to_owned()));
    }
    let passphrase = callbacks.request_passphrase(&format!("Passphrase of {name}")).ok_or_else(|| {
        bad("there is nobody to ask for its passphrase".to_owned())
            .hint("set MUSTER_PASSPHRASE_FROM to env:NAME or file:PATH")
    })?;
    let identity = age::scrypt::Identity::new(passphrase);
    let mut reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|_| {
        bad("the passphrase is wrong".to_owned()).hint(
            "run it again with the right one; without a terminal it is what MUSTER_PASSPHRASE_FROM refers to",
        )
    })?;
    let mut plain = Vec::new();
    reader.read_to_end(&mut plain).map_err(|e| bad(e.to_string()))?;
    Ok(Secret::new(plain))
}

/// Seals `plain` with a passphrase, armored: for a protected recovery kit.
pub fn protect(plain: &Secret<String>, passphrase: &Secret<String>) -> Result<String> {
    let recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.expose().clone()));
    age::encrypt_and_armor(&recipient, plain.expose().as_bytes())
        .map_err(|e| Error::new(ErrorKind::Internal, "protect the recovery kit", e.to_string()))
}

/// Who may open an epoch: any kind of age recipient.
#[derive(Clone)]
pub enum AnyRecipient {
    /// `age1…`
    X25519(x25519::Recipient),
    /// `ssh-ed25519 …`, `ssh-rsa …`
    Ssh(Box<age::ssh::Recipient>, String),
    /// `age1NAME1…`
    Plugin(age::plugin::Recipient),
    /// A passphrase.
    Passphrase(Secret<String>),
}

impl AnyRecipient {
    /// Reads a recipient as a person writes it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Ok(recipient) = x25519::Recipient::from_str(text) {
            return Ok(Self::X25519(recipient));
        }
        if text.starts_with("ssh-") {
            let recipient = age::ssh::Recipient::from_str(text).map_err(|e| {
                Error::new(ErrorKind::Usage, "use the recipient", format!("{e:?}")).on(text.to_owned())
            })?;
            // The comment is somebody's name, and would stand in the clear.
            let key: Vec<&str> = text.split_whitespace().take(2).collect();
            return Ok(Self::Ssh(Box::new(recipient), key.join(" ")));
        }
        if let Ok(recipient) = age::plugin::Recipient::from_str(text) {
            return Ok(Self::Plugin(recipient));
        }
        let error = Error::new(
            ErrorKind::Usage,
            "use the recipient",
            "it is neither an age recipient nor an SSH public key",
        )
        .hint("give the public half: age1…, age1yubikey1…, ssh-ed25519 …");
        // What might be a private key is not repeated.
        Err(if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            error
        } else {
            error.on(text.to_owned())
        })
    }

    /// Its kind, as the config says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::X25519(_) => "x25519",
            Self::Ssh(..) => "ssh",
            Self::Plugin(_) => "plugin",
            Self::Passphrase(_) => "passphrase",
        }
    }

    /// Its text, but for a passphrase.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::X25519(recipient) => Some(recipient.to_string()),
            Self::Ssh(_, text) => Some(text.clone()),
            Self::Plugin(recipient) => Some(recipient.to_string()),
            Self::Passphrase(_) => None,
        }
    }

    /// An epoch's identity as an age file for this recipient.
    pub fn seal_identity<C: age::Callbacks>(
        &self,
        epoch: &x25519::Identity,
        callbacks: C,
    ) -> Result<Vec<u8>> {
        let text = Zeroizing::new(format!("{}\n", epoch.to_string().expose_secret()));
        let plain = text.as_bytes();
        match self {
            Self::X25519(recipient) => seal::encrypt(recipient, plain),
            Self::Ssh(recipient, _) => seal::encrypt(&**recipient, plain),
            Self::Passphrase(secret) => {
                let recipient = age::scrypt::Recipient::new(SecretString::from(secret.expose().clone()));
                seal::encrypt(&recipient, plain)
            }
            Self::Plugin(recipient) => {
                let plugin = age::plugin::RecipientPluginV1::new(
                    recipient.plugin(),
                    std::slice::from_ref(recipient),
                    &[],
                    callbacks,
                )
                .map_err(|e| {
                    Error::new(ErrorKind::Config, "use the recipient's plugin", e.to_string())
                        .hint("install the plugin's program, for example age-plugin-yubikey")
                })?;
                seal::encrypt(&plugin, plain)
            }
        }
    }
}

/// The identity in an opened `keys/…` file.
pub fn parse_epoch_identity(plain: &[u8]) -> Option<x25519::Identity> {
    let text = std::str::from_utf8(plain).ok()?.strip_suffix('\n')?;
    x25519::Identity::from_str(text).ok()
}

/// A host's request to be admitted, as JSON (docs/FORMAT.md section 11).
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    muster: String,
    /// `writer` or `drill`.
    pub role: String,
    /// Name for people.
    pub label: String,
    /// Wanted id.
    pub party: String,
    /// Signing key, hex.
    pub signing_key: String,
    /// Age recipient.
    pub recipient: String,
    signature: String,
}

const KEY_REQUEST: &str = "key-request/1";

impl KeyRequest {
    /// Makes a request with the host's new keys.
    pub fn new(role: &str, label: &str, keys: &HostKeys) -> Self {
        let body = KeyRequestBody {
            role: role.to_owned(),
            label: label.to_owned(),
            party: keys.sign.party(),
            signing_key: keys.sign.public(),
            recipient: keys.identity.to_public().to_string(),
        };
        let signed =
            Envelope::sign(&keys.sign, &RepositoryId([0; 16]), Kind::KeyRequest, None, cbor::encode(&body));
        Self {
            muster: KEY_REQUEST.to_owned(),
            role: body.role,
            label: body.label,
            party: body.party.to_string(),
            signing_key: body.signing_key.to_string(),
            recipient: body.recipient,
            signature: to_hex(&signed.signature),
        }
    }

    /// Checks that the requester has the key it names, and what it asks for.
    pub fn verify(&self) -> Result<KeyRequestBody> {
        let bad = |why: &str| Error::new(ErrorKind::Untrusted, "take the key request", why);
        if self.muster != KEY_REQUEST {
            return Err(bad("it is not a key request of this version"));
        }
        if !matches!(self.role.as_str(), "writer" | "drill") {
            return Err(bad("its role is neither writer nor drill"));
        }
        let public: PublicKey = self.signing_key.parse().map_err(|_| bad("its signing key is not a key"))?;
        let party: PartyId = self.party.parse().map_err(|_| bad("its party is not an id"))?;
        x25519::Recipient::from_str(&self.recipient)
            .map_err(|_| bad("its recipient is not an age recipient"))?;
        let body = KeyRequestBody {
            role: self.role.clone(),
            label: self.label.clone(),
            party,
            signing_key: public,
            recipient: self.recipient.clone(),
        };
        let signature = from_hex(&self.signature).ok_or_else(|| bad("its signature is not hexadecimal"))?;
        let envelope = Envelope { payload: cbor::encode(&body), signer: party, signature };
        envelope.verify(&public, &RepositoryId([0; 16]), Kind::KeyRequest, None)?;
        if party == ROOT {
            return Err(bad("it asks for the root's id"));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::OsEntropy;

    #[test]
    fn host_keys_read_back_and_age_can_use_the_file() {
        let keys = HostKeys::generate(&OsEntropy).unwrap();
        let file = keys.to_file("writer");
        let again = HostKeys::parse(&file).unwrap();
        assert_eq!(again.sign.public(), keys.sign.public());
        assert_eq!(again.sign.party(), keys.sign.party());
        let mut identities = Identities::default();
        identities.add_file(&Secret::new(file.expose().clone().into_bytes()), "k", age::NoCallbacks).unwrap();
        let sealed = seal::encrypt(&keys.identity.to_public(), b"x").unwrap();
        assert_eq!(seal::decrypt(&identities.as_refs(), &sealed).unwrap(), b"x");
    }

    #[test]
    fn a_bad_identity_line_is_not_repeated() {
        let mut identities = Identities::default();
        let error = identities
            .add_file(&Secret::new(b"AGE-SECRET-KEY-1CANARY\n".to_vec()), "k", age::NoCallbacks)
            .unwrap_err();
        assert!(!format!("{error:?}").contains("CANARY"));
        let Err(error) = AnyRecipient::parse("AGE-SECRET-KEY-1CANARY") else { panic!("taken") };
        assert!(!format!("{error:?}").contains("CANARY"));
    }

    #[test]
    fn a_key_request_proves_its_key() {
        let keys = HostKeys::generate(&OsEntropy).unwrap();
        let request = KeyRequest::new("writer", "web-1", &keys);
        assert_eq!(request.verify().unwrap().party, keys.sign.party());
        let forged = KeyRequest { label: "other".to_owned(), ..request.clone() };
        assert!(forged.verify().is_err());
        assert!(KeyRequest { role: "root".to_owned(), ..request }.verify().is_err());
    }
}
