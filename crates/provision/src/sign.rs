//! Detached OpenPGP signatures of what the endpoints answer (`.sig` binary, `.asc` armoured).
//!
//! The key ring is matchbox's: a file with a secret key, binary or armoured, whose passphrase is
//! given beside it. The first key of the ring that can sign is used, a signing subkey before the
//! primary key, as GnuPG chooses.

use std::{fs, path::Path};

use pgp::{
    composed::{ArmorOptions, Deserializable, DetachedSignature, SignedSecretKey},
    ser::Serialize,
    types::{Password, SigningKey},
};

use crate::error::Error;

/// Signs with one key.
pub(crate) struct Signer {
    key: SignedSecretKey,
    passphrase: String,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `.sig`.
    Binary,
    /// `.asc`.
    Armoured,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Reads the key ring and signs once, so that a wrong passphrase stops the start.
    ///
    /// # Errors
    ///
    /// [`Error::KeyRing`], the operator's fault.
    pub(crate) fn open(path: &Path, passphrase: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::KeyRing {
            path: path.to_owned(),
            why,
        };
        let ring = fs::read(path).map_err(|error| failed(format!("is unreadable: {error}")))?;
        let (mut keys, _) = SignedSecretKey::from_reader_many(ring.as_slice())
            .map_err(|error| failed(format!("is no key ring: {error}")))?;
        let key = keys
            .find_map(Result::ok)
            .ok_or_else(|| failed("holds no secret key".to_owned()))?;
        let signer = Self {
            key,
            passphrase: passphrase.to_owned(),
        };
        signer
            .sign(b"", Form::Binary)
            .map_err(|why| failed(format!("does not sign with this passphrase: {why}")))?;
        Ok(signer)
    }

    /// The signature of `content`.
    ///
    /// # Errors
    ///
    /// The OpenPGP library's words.
    pub(crate) fn sign(&self, content: &[u8], form: Form) -> Result<Vec<u8>, String> {
        let subkey = self.key.secret_subkeys.iter().find(|subkey| {
            subkey
                .signatures
                .iter()
                .any(|signature| signature.key_flags().sign())
        });
        let signature = match subkey {
            Some(subkey) => self.sign_with(&subkey.key, content),
            None => self.sign_with(&self.key.primary_key, content),
        };
        let signature = signature.map_err(|error| error.to_string())?;
        match form {
            Form::Binary => signature.to_bytes(),
            Form::Armoured => signature.to_armored_bytes(ArmorOptions::default()),
        }
        .map_err(|error| error.to_string())
    }

    fn sign_with(
        &self,
        key: &impl SigningKey,
        content: &[u8],
    ) -> pgp::errors::Result<DetachedSignature> {
        let passphrase = Password::from(self.passphrase.as_str());
        let hash = key.hash_alg();
        DetachedSignature::sign_binary_data(rand::rngs::OsRng, key, &passphrase, hash, content)
    }
}
