//! The least that each kind of host has to be allowed at each provider.

use serde_json::{Value, json};

/// Whoever runs the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3.
    Aws,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    /// MinIO and RustFS.
    Minio,
    /// Garage.
    Garage,
    /// Ceph's object gateway.
    Ceph,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Aws, Self::R2, Self::B2, Self::Minio, Self::Garage, Self::Ceph];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::R2 => "r2",
            Self::B2 => "b2",
            Self::Minio => "minio",
            Self::Garage => "garage",
            Self::Ceph => "ceph",
        }
    }
}

/// What one kind of host is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `writer`, `pruner`, `drill`, `reader`, `create-only`.
    pub role: &'static str,
    /// Where it goes, and what it cannot do.
    pub about: String,
    /// A policy or commands, ending in a line end; empty where there is neither.
    pub text: String,
}

/// The kinds of hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Pruner,
    Drill,
    Reader,
}

impl Role {
    const ALL: [Self; 4] = [Self::Writer, Self::Pruner, Self::Drill, Self::Reader];

    fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Pruner => "pruner",
            Self::Drill => "drill",
            Self::Reader => "reader",
        }
    }

    fn can(self) -> &'static str {
        match self {
            Self::Writer => {
                "reads and puts, and a put may overwrite unless something else prevents it (see create-only); \
                 deletes nothing but what a probe left"
            }
            Self::Pruner => "a writer that may also delete, but for config/, keys/, evidence/ and audit/",
            Self::Drill => "reads, and puts evidence",
            Self::Reader => "reads",
        }
    }

    /// Folders it may put into; empty means all.
    fn puts(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Writer | Self::Pruner => Some(&[]),
            Self::Drill => Some(&["evidence/", "audit/"]),
            Self::Reader => None,
        }
    }

    /// Folders it may delete from.
    fn deletes(self) -> &'static [&'static str] {
        match self {
            Self::Writer => &["probe/"],
            Self::Pruner => {
                &["packs/", "index/", "sessions/", "points/", "condemned/", "leases/", "receipts/", "probe/"]
            }
            Self::Drill | Self::Reader => &[],
        }
    }
}

/// What hosts need at a provider, and how a writer is kept from overwriting.
pub fn permissions(provider: Provider, bucket: &str, prefix: &str) -> Vec<Grant> {
    match provider {
        Provider::Aws => with_policies(bucket, prefix, "an identity policy for the host's user or role", true, aws_create_only(bucket, prefix)),
        Provider::Minio => with_policies(
            bucket,
            prefix,
            "`mc admin policy create ALIAS muster-ROLE policy.json`, then `mc admin policy attach ALIAS muster-ROLE --user USER`; RustFS takes the same policies",
            true,
            Grant {
                role: "create-only",
                about: "the server knows If-None-Match, but no policy that demands it is known to us: turn on versioning or Object Lock instead".to_owned(),
                text: String::new(),
            },
        ),
        Provider::Ceph => with_policies(
            bucket,
            prefix,
            "the statements of a bucket policy (`s3cmd setpolicy`): add \"Principal\": {\"AWS\": [\"arn:aws:iam:::user/USER\"]} to each",
            false,
            Grant {
                role: "create-only",
                about: "the gateway's bucket policies know no s3:if-none-match: turn on versioning or Object Lock instead".to_owned(),
                text: String::new(),
            },
        ),
        Provider::R2 => r2(bucket),
        Provider::B2 => b2(bucket, prefix),
        Provider::Garage => garage(bucket),
    }
}

fn with_policies(
    bucket: &str,
    prefix: &str,
    how: &str,
    has_settings: bool,
    create_only: Grant,
) -> Vec<Grant> {
    let grants = Role::ALL.into_iter().map(|role| Grant {
        role: role.name(),
        about: format!("{}; {how}", role.can()),
        text: pretty(&policy(role, bucket, prefix, has_settings)),
    });
    grants.chain([create_only]).collect()
}

fn policy(role: Role, bucket: &str, prefix: &str, has_settings: bool) -> Value {
    let objects = |folder: &str| format!("arn:aws:s3:::{bucket}/{prefix}{folder}*");
    let bucket = format!("arn:aws:s3:::{bucket}");
    let mut statements = vec![
        // Not below the prefix alone: without this right a look at an object that is missing is answered by 403,
        // and gateways differ in whether a right that is bound to s3:prefix, which only lists send, counts.
        json!({ "Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket }),
        json!({ "Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject", "Resource": objects("") }),
    ];
    if let Some(folders) = role.puts() {
        let places: Vec<String> = match folders {
            [] => vec![objects("")],
            some => some.iter().map(|folder| objects(folder)).collect(),
        };
        statements.push(json!({
            "Sid": "Add",
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": places
        }));
    }
    if !role.deletes().is_empty() {
        let places: Vec<String> = role.deletes().iter().map(|folder| objects(folder)).collect();
        statements.push(
            json!({ "Sid": "Delete", "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": places }),
        );
    }
    if has_settings && role == Role::Pruner {
        statements.push(json!({
            "Sid": "SeeLocks",
            "Effect": "Allow",
            "Action": ["s3:GetObjectRetention", "s3:GetObjectLegalHold"],
            "Resource": objects("packs/")
        }));
    }
    if has_settings && matches!(role, Role::Writer | Role::Pruner) {
        statements.push(json!({
            "Sid": "DoctorLooks",
            "Effect": "Allow",
            "Action": ["s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"],
            "Resource": bucket
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn aws_create_only(bucket: &str, prefix: &str) -> Grant {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "CreateButNeverOverwrite",
            "Effect": "Deny",
            "Principal": { "AWS": "arn:aws:iam::ACCOUNT:role/WRITER" },
            "Action": "s3:PutObject",
            "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
            "Condition": {
                "Null": { "s3:if-none-match": "true" },
                "Bool": { "s3:ObjectCreationOperation": "true" }
            }
        }]
    });
    Grant {
        role: "create-only",
        about: "the bucket's policy: writers can create objects and never overwrite one (set conditional_put = true; \
                the second condition lets the parts of an upload through)"
            .to_owned(),
        text: pretty(&policy),
    }
}

fn r2(bucket: &str) -> Vec<Grant> {
    let token = |role: Role, permission: &str, beware: &str| Grant {
        role: role.name(),
        about: format!("{}; an R2 API token `{permission}` for the bucket {bucket:?}{beware}", role.can()),
        text: String::new(),
    };
    let too_much =
        ": it can delete and overwrite too, since tokens know no finer right; add a bucket lock rule";
    vec![
        token(Role::Writer, "Object Read & Write", too_much),
        token(Role::Pruner, "Object Read & Write", ""),
        token(Role::Drill, "Object Read & Write", too_much),
        token(Role::Reader, "Object Read only", ""),
        Grant {
            role: "create-only",
            about: "R2 has no bucket policies. A bucket lock rule for a prefix keeps what is there from being overwritten or deleted for as long as the rule says".to_owned(),
            text: String::new(),
        },
    ]
}

fn b2(bucket: &str, prefix: &str) -> Vec<Grant> {
    let key = |role: Role, capabilities: &str, beware: &str| Grant {
        role: role.name(),
        about: format!("{}{beware}", role.can()),
        text: format!(
            "b2 key create --bucket {bucket} --name-prefix '{prefix}' muster-{} {capabilities}\n",
            role.name()
        ),
    };
    let read = "listAllBucketNames,listBuckets,listFiles,readFiles";
    let write = format!("{read},writeFiles,readBuckets,readBucketRetentions");
    let hides = ". writeFiles may also hide a file by its name: what it hid stays as an older version, so keep those (lifecycle)";
    vec![
        key(Role::Writer, &write, hides),
        key(
            Role::Pruner,
            &format!("{write},deleteFiles,readFileRetentions,readFileLegalHolds"),
            ". What is deleted by its name stays as a hidden version until a lifecycle rule removes it",
        ),
        key(Role::Drill, &format!("{read},writeFiles"), hides),
        key(Role::Reader, read, ""),
        Grant {
            role: "create-only",
            about: "keys know no such right. Without deleteFiles older versions cannot be destroyed; Object Lock holds them against everybody".to_owned(),
            text: String::new(),
        },
    ]
}

fn garage(bucket: &str) -> Vec<Grant> {
    let grant = |role: Role, flags: &str, beware: &str| Grant {
        role: role.name(),
        about: format!("{}{beware}", role.can()),
        text: format!(
            "garage key create muster-{role}\ngarage bucket allow {flags} {bucket} --key muster-{role}\n",
            role = role.name()
        ),
    };
    let too_much = ". --write lets it overwrite and delete too, and there is no finer right";
    vec![
        grant(Role::Writer, "--read --write", too_much),
        grant(Role::Pruner, "--read --write", ""),
        grant(Role::Drill, "--read --write", too_much),
        grant(Role::Reader, "--read", ""),
        Grant {
            role: "create-only",
            about: "Garage ignores If-None-Match, and has neither policies, versioning nor Object Lock: replicate to a second store that a thief cannot reach".to_owned(),
            text: String::new(),
        },
    ]
}

fn pretty(value: &Value) -> String {
    // A value made of text and lists can always be written.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(provider: Provider, role: &str) -> Grant {
        permissions(provider, "bucket", "app/").into_iter().find(|grant| grant.role == role).unwrap()
    }

    #[test]
    fn every_provider_has_every_role() {
        for provider in Provider::ALL {
            let roles: Vec<_> =
                permissions(provider, "bucket", "app/").iter().map(|grant| grant.role).collect();
            assert_eq!(roles, ["writer", "pruner", "drill", "reader", "create-only"], "{provider:?}");
        }
    }

    /// Bound to a prefix, it would make 403 of a missing object.
    #[test]
    fn lists_are_allowed_without_a_condition() {
        for provider in [Provider::Aws, Provider::Minio, Provider::Ceph] {
            for role in Role::ALL {
                let policy: Value = serde_json::from_str(&grant(provider, role.name()).text).unwrap();
                let list = &policy["Statement"][0];
                assert_eq!((&list["Action"], &list["Condition"]), (&json!("s3:ListBucket"), &Value::Null));
            }
        }
    }

    #[test]
    fn a_writer_is_not_said_to_be_unable_to_overwrite() {
        for provider in Provider::ALL {
            assert!(grant(provider, "writer").about.contains("overwrite"), "{provider:?}");
        }
    }

    #[test]
    fn no_role_may_more_than_it_needs() {
        for provider in [Provider::Aws, Provider::Minio, Provider::Ceph] {
            let text = |role| grant(provider, role).text;
            assert!(text("writer").contains("s3:PutObject"));
            assert!(
                text("writer").contains("bucket/app/probe/*")
                    && !text("writer").contains("bucket/app/packs/*")
            );
            assert!(
                text("pruner").contains("bucket/app/packs/*")
                    && !text("pruner").contains("bucket/app/config/")
            );
            assert!(
                text("drill").contains("bucket/app/evidence/*") && !text("drill").contains("DeleteObject")
            );
            assert!(!text("reader").contains("Put") && !text("reader").contains("Delete"));
            for role in ["writer", "pruner", "drill", "reader"] {
                let value: Value = serde_json::from_str(&text(role)).unwrap();
                assert!(value["Statement"].as_array().unwrap().len() >= 2);
            }
        }
        assert!(grant(Provider::Aws, "create-only").text.contains("s3:if-none-match"));
    }
}
