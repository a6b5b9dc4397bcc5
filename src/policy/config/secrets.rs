//! What looks like a secret where none may stand: in plain variables and in programs' arguments. It knows
//! the usual names and shapes; docs/OPERATIONS.md says what it cannot see.

/// Parts of names that mean a secret.
const WORDS: [&str; 5] = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN"];
/// Ends of names that mean one.
const ENDS: [&str; 6] = ["API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY", "_PASS", "SSHPASS"];
/// Ends of variables' names that mean one; options so called (`--auth=basic`) mostly hold none.
const VARIABLE_ENDS: [&str; 2] = ["_PWD", "AUTH"];
/// Ends of names that say where a secret is, or how to get it.
const ELSEWHERE: [&str; 6] = ["FILE", "_PATH", "_DIR", "_FD", "_STDIN", "_COMMAND"];

/// Whether a variable of this name usually holds a secret.
pub(super) fn is_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let is_one = name.split('_').any(|part| WORDS.iter().any(|word| part.ends_with(word)))
        || ends(&ENDS)
        || ends(&VARIABLE_ENDS);
    is_one && !ends(&ELSEWHERE)
}

/// The same of an option's name, without its dashes; `--no-password` asks for none.
fn is_option(name: &str) -> bool {
    let is_auth = name.to_ascii_uppercase().ends_with("AUTH");
    !name.starts_with("no-") && !is_auth && is_variable(&name.replace('-', "_"))
}

/// The first argument that holds a secret. A shell's line in one argument is looked at word by word.
pub(super) fn in_arguments(argv: &[&str]) -> Option<usize> {
    let mut seen = Words { is_mysql: false, is_value_of_secret: false };
    argv.iter().position(|argument| {
        // A value that is an argument of its own may begin like a line and hold anything.
        let is_value = seen.is_value_of_secret && !argument.starts_with('-') && is_plain(argument);
        is_value || has_url_password(argument) || argument.split_whitespace().any(|word| seen.is_secret(word))
    })
}

/// What the words before a word say about it.
struct Words {
    /// They began with a program of MySQL or MariaDB, whose `-p` has the password behind it.
    is_mysql: bool,
    /// The last one was `--password` or its like.
    is_value_of_secret: bool,
}

impl Words {
    fn is_secret(&mut self, word: &str) -> bool {
        if std::mem::take(&mut self.is_value_of_secret) && !word.starts_with('-') && is_plain(word) {
            return true;
        }
        let program = word.rsplit('/').next().unwrap_or_default();
        self.is_mysql |= program.starts_with("mysql") || program.starts_with("mariadb");
        self.is_mysql &= !word.contains(['|', ';', '&']);
        if let Some(option) = word.strip_prefix("--") {
            return match option.split_once('=') {
                Some((name, value)) => is_option(name) && is_plain(value),
                None => {
                    self.is_value_of_secret = is_option(option);
                    false
                }
            };
        }
        if let Some(password) = word.strip_prefix("-p").filter(|_| self.is_mysql) {
            return is_plain(password);
        }
        word.split_once('=').is_some_and(|(name, value)| is_name(name) && is_plain(value))
    }
}

/// Whether `NAME=` sets a secret: a variable's name, or a key of a list such as libpq's.
fn is_name(name: &str) -> bool {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_upper = !name.chars().any(|c| c.is_ascii_lowercase());
    is_word && if is_upper { is_variable(name) } else { is_option(name) }
}

/// Whether the text is a value, and no shell's expression that yields one.
fn is_plain(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    !value.is_empty() && !value.starts_with(['$', '`'])
}

/// Whether the text holds `scheme://user:password@`.
pub(super) fn has_url_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .and_then(|(user, _)| user.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            "PGPASSWORD",
            "MYSQL_PWD",
            "REDISCLI_AUTH",
            "APP_PWD",
            "HTTP_AUTH",
            "RESTIC_PASSWORD",
            "SSHPASS",
            "DB_PASS",
            "db_password",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "STRIPE_API_KEY",
        ] {
            assert!(is_variable(name), "{name}");
        }
        for name in [
            "PWD",
            "OLDPWD",
            "PGPASSFILE",
            "POSTGRES_PASSWORD_FILE",
            "BORG_PASSCOMMAND",
            "SSH_AUTH_SOCK",
            "XAUTHORITY",
            "PGUSER",
            "LANG",
        ] {
            assert!(!is_variable(name), "{name}");
        }
    }

    #[test]
    fn arguments_that_hold_one_are_found() {
        let found = |argv: &[&str]| in_arguments(argv);
        for (argv, at) in [
            (&["mysqldump", "-phunter2", "app"][..], 1),
            (&["/usr/bin/mariadb-dump", "-u", "app", "-phunter2"], 3),
            (&["mysqldump", "--password=hunter2"], 1),
            (&["mysqldump", "--password", "hunter2"], 2),
            (&["env", "PGPASSWORD=hunter2", "pg_dump"], 1),
            (&["sh", "-c", "set -e; MYSQL_PWD=hunter2 mysqldump app"], 2),
            (&["sh", "-c", "mysqldump -phunter2 app | gzip"], 2),
            (&["sh", "-c", "tool --api-key hunter2"], 2),
            (&["pg_dump", "host=db password=hunter2"], 1),
            (&["pg_dump", "postgres://app:hunter2@db/app"], 1),
            (&["tool", "--token", "two words"], 2),
        ] {
            assert_eq!(found(argv), Some(at), "{argv:?}");
        }
    }

    #[test]
    fn arguments_that_hold_none_are_left_alone() {
        for argv in [
            &["pg_dump", "--no-password", "app"][..],
            &["pg_dump", "-p5432", "app"],
            &["mysqldump", "-P3306", "-p", "app"],
            &["mysqldump", "--password", "--all-databases"],
            &["sh", "-c", "PGPASSWORD=$APP_PW pg_dump app"],
            &["sh", "-c", "MYSQL_PWD=\"$PW\" mysqldump app; tar -pcf - x"],
            &["sh", "-c", "tool --password \"$PW\""],
            &["restic", "--password-file", "/etc/pw", "--password-file=/etc/pw"],
            &["curl", "--auth=basic", "auth=basic"],
            &["dd", "if=/dev/x", "of=/dev/stdout"],
            &["pg_dump", "postgres://app@db/app"],
        ] {
            assert_eq!(in_arguments(argv), None, "{argv:?}");
        }
    }
}
