//! Evidence of a drill or a runbook: a signed statement that others can verify without
//! Muster (docs/FORMAT.md section 10). Its envelope is DSSE, <https://github.com/secure-systems-lab/dsse>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::{Error, ErrorKind, PartyId, Result, Ulid};

use super::sign::SignKey;
use super::trust::Trusted;

/// What DSSE says the payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.muster.evidence.v1+json";
/// The version of the payload that this build reads and writes.
pub const EVIDENCE_VERSION: u32 = 1;

/// What left the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A restore drill.
    Drill,
    /// A recovery procedure.
    Runbook,
}

/// What a verification found. Where several are summed up the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What came back is what was captured.
    Same,
    /// It could not be told.
    CannotTell,
    /// It is not.
    Different,
}

/// What was found of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceSource {
    /// Its name in the point.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What was found.
    pub verdict: Verdict,
    /// Checks that were made.
    pub checks: u64,
    /// Checks that failed.
    pub failed: u64,
}

/// What is signed: a summary without content. Ids and hashes are hex, times RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Version of this structure.
    pub version: u32,
    /// Repository id.
    pub repository: String,
    /// ULID, as in the object's name.
    pub id: String,
    /// Drill or runbook.
    pub kind: EvidenceKind,
    /// ULID of the point that was restored; none for a runbook that restored none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// Hash of the point's payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point_hash: Option<String>,
    /// Began (host clock).
    pub started: String,
    /// Ended (host clock).
    pub ended: String,
    /// The worst of all.
    pub verdict: Verdict,
    /// Seconds that the recovery took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<u64>,
    /// Age of the restored data, in seconds, when the recovery began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
    /// Each source.
    pub sources: Vec<EvidenceSource>,
    /// Hash of the object `evidence/<id>.detail`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail_hash: Option<String>,
}

/// A DSSE envelope.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dsse {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding: the bytes that are signed. They begin otherwise than the
/// bytes of every other signature, so that one is never taken for another.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Evidence {
    /// Signs with a drill host's key; answers with the DSSE envelope as JSON.
    pub fn sign(&self, key: &SignKey) -> Result<Vec<u8>> {
        let failed = |e: serde_json::Error| Error::internal("write the evidence", e.to_string());
        let payload = serde_json::to_vec(self).map_err(failed)?;
        let envelope = Dsse {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&payload),
            signatures: vec![DsseSignature {
                keyid: key.party().to_string(),
                sig: STANDARD.encode(key.sign_bytes(&pae(&payload))),
            }],
        };
        serde_json::to_vec(&envelope).map_err(failed)
    }

    /// Verifies a DSSE envelope that stood in `evidence/<id>`: exactly one signature, by a drill host in
    /// good standing, over a statement about this repository that bears this id. Answers
    /// with the statement and who signed it.
    pub fn verify(dsse: &[u8], id: &Ulid, trusted: &Trusted) -> Result<(Self, PartyId)> {
        let on = || format!("evidence/{id}");
        let damaged = |why: String| Error::new(ErrorKind::Damaged, "read the evidence", why).on(on());
        let untrusted = |why: &str| Error::new(ErrorKind::Untrusted, "trust the evidence", why).on(on());
        let envelope: Dsse = serde_json::from_slice(dsse).map_err(|e| damaged(e.to_string()))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(damaged("its payload is of another type".to_owned()));
        }
        let [signature] = &envelope.signatures[..] else {
            return Err(damaged("it does not have exactly one signature".to_owned()));
        };
        let payload = STANDARD.decode(&envelope.payload).map_err(|e| damaged(e.to_string()))?;
        let sig = STANDARD.decode(&signature.sig).ok().and_then(|sig| <[u8; 64]>::try_from(sig).ok());
        let sig = sig.ok_or_else(|| damaged("its signature is not one of Ed25519".to_owned()))?;
        let signer: PartyId =
            signature.keyid.parse().map_err(|_| damaged("its key id is not one".to_owned()))?;
        let key = trusted
            .drill_key(&signer)
            .ok_or_else(|| untrusted("who signed it is no drill host of this repository"))?;
        if !key.verifies(&pae(&payload), &sig) {
            return Err(untrusted("its signature does not verify"));
        }
        let evidence: Self = serde_json::from_slice(&payload).map_err(|e| damaged(e.to_string()))?;
        if evidence.version != EVIDENCE_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "read the evidence",
                format!("it has version {}", evidence.version),
            )
            .on(on())
            .hint("use a newer Muster"));
        }
        if evidence.repository != trusted.repository().to_string() || evidence.id != id.to_string() {
            return Err(untrusted("it does not say what its name and repository say"));
        }
        Ok((evidence, signer))
    }
}
