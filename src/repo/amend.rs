//! Changes the root-signed configuration (docs/FORMAT.md section 5.1).

use age::x25519;
use zeroize::Zeroizing;

use crate::model::{EpochId, Error, ErrorKind, Hash, ObjectName, PartyId, Result, Time};
use crate::ports::Entropy;

use super::cbor;
use super::chain::read_config_objects;
use super::format::{Config, ConfigSecret, EpochKind, Label};
use super::keys::AnyRecipient;
use super::layout;
use super::limits::SMALL_OBJECT_MAX_BYTES;
use super::repository::{Repository, open_key_of, put_new, random, seal_secret};
use super::seal::{self, Zstd};
use super::sign::SignKey;
use super::trust::{ConfigObject, Pin, Trusted, decode_config, sign_config, verify_link, verify_whole_chain};

impl Repository {
    /// Signs and stores the next configuration. `change` edits a copy of the newest; the
    /// secret part is sealed anew to the current metadata epoch.
    pub fn amend_config(
        &self,
        root: &SignKey,
        now: Time,
        new_meta: Option<&x25519::Recipient>,
        change: impl FnOnce(&mut Config, &mut Vec<Label>) -> Result<()>,
    ) -> Result<Trusted> {
        if root.public() != self.trusted().config.root {
            return Err(Error::new(
                ErrorKind::WrongKey,
                "change the configuration",
                "this root key is not this repository's",
            ));
        }
        self.refuse_if_amended()?;
        let mut config = self.trusted().config.clone();
        let mut labels = self.labels().to_vec();
        config.number += 1;
        config.parent = Some(self.trusted().hash);
        config.made = now;
        change(&mut config, &mut labels)?;
        labels.sort_by_key(|l| l.party);
        let meta = match new_meta {
            Some(recipient) => recipient,
            None => self.current_epoch(EpochKind::Meta)?.1,
        };
        let master = self.master()?;
        config.sealed = seal_secret(&ConfigSecret { master: *master, labels }, meta)?;
        verify_link(self.trusted(), &config)?;
        let (name, bytes) = sign_config(&config, root);
        let stored = put_new(self.store(), &name, &bytes);
        // Also where the put failed: it may have got there although its answer was lost.
        let alone = self.give_way(&name);
        stored?;
        alone?;
        Ok(Trusted { config, hash: Hash(*blake3::hash(&bytes).as_bytes()) })
    }

    /// Of two changes made at the same moment the one that was stored last sees the other, whatever their
    /// names are; so whoever sees another takes its own back. Both may, and none stands then: never two.
    fn give_way(&self, own: &ObjectName) -> Result<()> {
        // Once more right before taking it back: the other may have been quicker, and this one stands then.
        if self.in_the_way_of(own)?.is_none() {
            return Ok(());
        }
        let Some(why) = self.in_the_way_of(own)? else { return Ok(()) };
        let error =
            Error::new(ErrorKind::Refused, "change the configuration", why).on(self.store().describe());
        match self.store().delete(own) {
            Ok(()) => Err(error.hint("nothing was changed: run the command again")),
            Err(failed) => Err(error.because(failed).hint(format!(
                "the change could not be taken back: run `muster repair config --remove {own}` with the recovery kit, and then this command again"
            ))),
        }
    }

    /// Why a configuration that was just stored must not stand, if so.
    fn in_the_way_of(&self, own: &ObjectName) -> Result<Option<&'static str>> {
        let before = self.trusted();
        let number = before.config.number + 1;
        let parent = layout::config(before.config.number, &before.hash);
        let (mut has_twin, mut is_parent_alone, mut children) = (false, true, Vec::new());
        let mut is_parent_there = false;
        self.store().list(layout::CONFIG, &mut |meta| {
            is_parent_there |= meta.name == parent;
            match layout::parse_config(&meta.name) {
                Some((n, _)) if n + 1 == number => is_parent_alone &= meta.name == parent,
                Some((n, _)) if n == number => has_twin |= meta.name != *own,
                Some((n, _)) if n == number + 1 => children.push(meta.name),
                _ => {}
            }
            Ok(())
        })?;
        if !is_parent_there || !is_parent_alone {
            return Ok(Some("the change on which it was to be built was made at the same moment as another"));
        }
        // What somebody has built on must stay: it was there alone once, so the other sees it and gives way.
        if !has_twin || self.is_parent_of_any(own, &children)? {
            return Ok(None);
        }
        Ok(Some("somebody else changed it at the same moment"))
    }

    fn is_parent_of_any(&self, own: &ObjectName, children: &[ObjectName]) -> Result<bool> {
        let own_hash = layout::parse_config(own).map(|(_, hash)| hash);
        for name in children {
            let bytes = self.store().get(name, SMALL_OBJECT_MAX_BYTES as u64)?;
            let (child, _) = decode_config(&ConfigObject { name: name.clone(), bytes })?;
            if child.root == self.trusted().config.root && child.parent == own_hash {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Two configurations of one number would be a fork, which every reader refuses.
    fn refuse_if_amended(&self) -> Result<()> {
        self.store().list(layout::CONFIG, &mut |meta| match layout::parse_config(&meta.name) {
            Some((number, _)) if number > self.trusted().config.number => Err(Error::new(
                ErrorKind::Refused,
                "change the configuration",
                format!("somebody wrote number {number} meanwhile"),
            )
            .on(self.store().describe())
            .hint("run the command again: it will begin from the newest")),
            _ => Ok(()),
        })
    }

    fn master(&self) -> Result<Zeroizing<[u8; 32]>> {
        let current = self.trusted().current_epoch(EpochKind::Meta)?.id;
        let identity = self.epoch(&current)?.identity.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::WrongKey,
                "change the configuration",
                "no key at hand opens its sealed part",
            )
        })?;
        let plain = Zeroizing::new(seal::open(
            &mut Zstd::new(3)?,
            identity,
            &self.trusted().config.sealed,
            SMALL_OBJECT_MAX_BYTES,
        )?);
        let secret: ConfigSecret = cbor::decode(&plain, "config's sealed part")?;
        Ok(Zeroizing::new(secret.master))
    }

    /// Stores an epoch's identity for one recipient: for an epoch that is being begun under the
    /// recipient's plain name, for one that the configuration has already under a fresh name.
    pub fn put_key<C: age::Callbacks>(
        &self,
        epoch: &EpochId,
        identity: &x25519::Identity,
        who: &PartyId,
        recipient: &AnyRecipient,
        callbacks: C,
        entropy: &dyn Entropy,
    ) -> Result<()> {
        let sealed = recipient.seal_identity(identity, callbacks)?;
        let name = match self.epochs().contains_key(epoch) {
            true => layout::added_key(epoch, who, random(entropy)?),
            false => layout::key(epoch, who),
        };
        put_new(self.store(), &name, &sealed)
    }

    /// Whether `identity` opens the key file of a party in the current metadata epoch.
    pub fn opens_key_of(&self, who: &PartyId, identity: &dyn age::Identity) -> Result<bool> {
        let epoch = self.trusted().current_epoch(EpochKind::Meta)?;
        Ok(open_key_of(self.store(), epoch, who, identity)?.is_some())
    }

    /// Every configuration so far, oldest first.
    pub fn config_history(&self) -> Result<Vec<Config>> {
        let pin = Pin { root: Some(self.trusted().config.root), lowest: self.trusted().config.number };
        Ok(verify_whole_chain(read_config_objects(self.store())?, &pin)?
            .into_iter()
            .map(|t| t.config)
            .collect())
    }
}
