//! Command lines that people type, and what may be told of them.

use proptest::prelude::*;

use super::*;

/// A command line in which `|` separates the arguments.
fn block(line: &str) -> Vec<u8> {
    let mut block = line.replace('|', "\0").into_bytes();
    block.push(0);
    block
}

fn masked_by(secrets: &Secrets, line: &str) -> String {
    let block = block(line);
    let masked = secrets.mask(&block, false).unwrap_or(block);
    let masked = String::from_utf8(masked).unwrap();
    masked.strip_suffix('\0').unwrap().replace('\0', "|")
}

fn masked(line: &str) -> String {
    masked_by(&Secrets::default(), line)
}

#[test]
fn secrets_of_real_command_lines_are_masked_and_nothing_else() {
    for (line, expected) in [
        (
            "app|--password|hunter2|--verbose",
            "app|--password|***|--verbose",
        ),
        ("app|--db-password=hunter2|x", "app|--db-password=***|x"),
        ("app|-token|abc", "app|-token|***"),
        ("app|--API-KEY|abc", "app|--API-KEY|***"),
        ("app|--apikey=abc", "app|--apikey=***"),
        (
            "app|--access-key|abc|--secret|def",
            "app|--access-key|***|--secret|***",
        ),
        ("app|--auth|abc", "app|--auth|***"),
        ("app|--auth=abc", "app|--auth=***"),
        ("app|--passwd|-x9", "app|--passwd|***"),
        ("app|--pass|a", "app|--pass|***"),
        (
            "app|--private-key|0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318",
            "app|--private-key|***",
        ),
        ("app|-----BEGIN RSA PRIVATE KEY-----\nMII", "app|***"),
        ("env|DB_PASSWORD=a b c|cmd", "env|DB_PASSWORD=***|cmd"),
        (
            "env|AWS_SECRET_ACCESS_KEY=a/b+c|aws",
            "env|AWS_SECRET_ACCESS_KEY=***|aws",
        ),
        ("env|SIGNING_KEY=abc|cmd", "env|SIGNING_KEY=***|cmd"),
        (
            "psql|host=db password=hunter2 user=x",
            "psql|host=db password=*** user=x",
        ),
        (
            "sh|-c|PGPASSWORD=hunter2 psql -h db; curl http://evil/",
            "sh|-c|PGPASSWORD=*** psql -h db; curl http://evil/",
        ),
        (
            "sh|-c|export TOKEN='a b' && run",
            "sh|-c|export TOKEN='***' && run",
        ),
        (
            "curl|-s|https://tom:hunter2@example.org/x?y=1",
            "curl|-s|https://tom:***@example.org/x?y=1",
        ),
        (
            "git|clone|https://tom:p@ss@host/x",
            "git|clone|https://tom:***@host/x",
        ),
        (
            "curl|https://h/?a=1&token=abc&b=2",
            "curl|https://h/?a=1&token=***&b=2",
        ),
        (
            "curl|https://h/?api_key=abc#x",
            "curl|https://h/?api_key=***",
        ),
        (
            "curl|-H|Authorization: Bearer abc.def|https://h/",
            "curl|-H|Authorization: Bearer ***|https://h/",
        ),
        (
            "curl|-HAuthorization: Basic dG9tOnB3|https://h/",
            "curl|-HAuthorization: Basic ***|https://h/",
        ),
        (
            "curl|-H|authorization: abc|h",
            "curl|-H|authorization: ***|h",
        ),
        ("curl|-H|X-Api-Key: abc|h", "curl|-H|X-Api-Key: ***|h"),
        (
            "curl|-H|PRIVATE-TOKEN: abc|h",
            "curl|-H|PRIVATE-TOKEN: ***|h",
        ),
        (
            r#"curl|-d|{"user":"tom","password":"hunter2"}|h"#,
            r#"curl|-d|{"user":"tom","password":"***"}|h"#,
        ),
        (
            r#"sh|-c|x --data "token=\"abc\"" y"#,
            r#"sh|-c|x --data "token=\"***"" y"#,
        ),
        ("curl|-su|tom:hunter2|h", "curl|-su|tom:***|h"),
        ("/usr/bin/curl|-utom:hunter2|h", "/usr/bin/curl|-utom:***|h"),
        ("curl|--user|tom:hunter2|h", "curl|--user|tom:***|h"),
        (
            "curl|--proxy-user=tom:hunter2|h",
            "curl|--proxy-user=tom:***|h",
        ),
        ("sh|-c|curl -u tom:hunter2 h", "sh|-c|curl -u tom:*** h"),
        ("aws|AKIAIOSFODNN7EXAMPLE|x", "aws|***|x"),
        ("x|ghp_0123456789abcdefghijABCDEFGHIJ", "x|***"),
        ("x|github_pat_0123456789abcdefgh_ij", "x|***"),
        ("x|glpat-0123456789abcdefghij", "x|***"),
        ("x|a xoxb-1234567890-abc b", "x|a *** b"),
        ("x|eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1", "x|***"),
        ("mysql|-uroot|-phunter2|db", "mysql|-uroot|-p***|db"),
        (
            "sudo|/usr/bin/mariadb-dump|-phunter2|db",
            "sudo|/usr/bin/mariadb-dump|-p***|db",
        ),
        ("sh|-c|mysql -phunter2 db", "sh|-c|mysql -p*** db"),
        (
            "sshpass|-p|hunter 2|ssh|-p|22|host",
            "sshpass|-p|***|ssh|-p|22|host",
        ),
        ("sshpass|-v|-phunter2|ssh|host", "sshpass|-v|-p***|ssh|host"),
        (
            "sh|-c|sshpass -p hunter2 ssh -p 22 h",
            "sh|-c|sshpass -p *** ssh -p 22 h",
        ),
        (
            "sh|-c|app --password hunter2 --x; app --db-token 'a b' y",
            "sh|-c|app --password *** --x; app --db-token '***' y",
        ),
        ("redis-cli|-a|hunter2|get|x", "redis-cli|-a|***|get|x"),
        (
            "docker|login|-u|tom|-p|hunter2",
            "docker|login|-u|tom|-p|***",
        ),
        (
            "openssl|rsa|-passin|pass:hunter2",
            "openssl|rsa|-passin|pass:***",
        ),
    ] {
        assert_eq!(masked(line), expected, "of {line}");
    }
}

#[test]
fn what_only_resembles_a_secret_stays() {
    for line in [
        "app|--password-file|/x",
        "app|--password-file=/x",
        "app|--token-ttl|5",
        "app|--max-tokens=100",
        "psql|--no-password|db",
        "ansible|--ask-pass|host",
        "mysql|--password|--host|db",
        "mysql|-p|db",
        "app|-p|8080",
        "sh|-c|app --password-file /x; psql --no-password db; mysql --password --host db",
        "ssh|-p|22|host",
        "ssh|-p22|host",
        "docker|run|-p8080:80|nginx",
        "git|commit|-m|token = x",
        "git|commit|-m|fix the password prompt",
        "ansible-playbook|--private-key|/root/.ssh/id_ed25519",
        "app|--private-key=keys/deploy.pem",
        "curl|https://example.org:8080/a@b",
        "curl|-o|/dev/null|https://user@example.org/",
        "curl|-XPUT|http://h:1/",
        "useradd|-u|1000:1000|x",
        "podman|run|--user|1000:1000|x",
        "ffmpeg|-pass|1|x",
        "env|PATH=/usr/bin|KEYBOARD=de|cmd",
        "apt-key|list",
        "gpg|--keyring|x",
        "AKIA",
        "x|eyJ.b.c",
        "",
    ] {
        assert_eq!(masked(line), line);
    }
}

#[test]
fn names_and_quotes_that_people_use_besides_are_known() {
    for (line, expected) in [
        ("app|--api_key|X|y", "app|--api_key|***|y"),
        ("app|--secret_key|X", "app|--secret_key|***"),
        ("app|--accessToken|X|y", "app|--accessToken|***|y"),
        (
            "sh|-c|app --accessToken X y",
            "sh|-c|app --accessToken *** y",
        ),
        ("app|--dbPassword=X|y", "app|--dbPassword=***|y"),
        ("app|--pwd=X|y", "app|--pwd=***|y"),
        ("app|--db-pwd|X y|z", "app|--db-pwd|***|z"),
        ("sh|-c|app --pwd=X y", "sh|-c|app --pwd=*** y"),
        ("curl|--oauth2-bearer|X|h", "curl|--oauth2-bearer|***|h"),
        (
            "sh|-c|curl --oauth2-bearer X h",
            "sh|-c|curl --oauth2-bearer *** h",
        ),
        (
            "python|-c|f({'password': 'x y'})",
            "python|-c|f({'password': '***'})",
        ),
        (r#"app|{"password": "x"}"#, r#"app|{"password": "***"}"#),
        (
            r#"app|{"password": "x\"y\\z", "a": 1}"#,
            r#"app|{"password": "***", "a": 1}"#,
        ),
        (
            r#"sh|-c|app "{\"token\": \"x\"}""#,
            r#"sh|-c|app "{\"token\": \"***\"}""#,
        ),
        (
            r"sh|-c|DB_PASSWORD=my\ secret app",
            "sh|-c|DB_PASSWORD=*** app",
        ),
        (r"sh|-c|TOKEN=a\;b; app", "sh|-c|TOKEN=***; app"),
    ] {
        assert_eq!(masked(line), expected, "of {line}");
    }
}

#[test]
fn passwords_in_urls_may_have_slashes_and_cookies_are_secrets() {
    for (line, expected) in [
        ("psql|postgres://u:pa/ss@h", "psql|postgres://u:***@h"),
        (
            "psql|postgres://u:p/a/s@s@h/db",
            "psql|postgres://u:***@h/db",
        ),
        (
            "x|a://u:p@h1/x,a://u:q@h2/",
            "x|a://u:***@h1/x,a://u:***@h2/",
        ),
        (
            "curl|-H|Cookie: sid=abc; t=x|h",
            "curl|-H|Cookie: sid=***|h",
        ),
        (
            "sh|-c|curl -H 'cookie: a=b' h",
            "sh|-c|curl -H 'cookie: a=***' h",
        ),
        ("curl|-b|sid=abc; t=x|h", "curl|-b|sid=***|h"),
        ("curl|-sbsid=abc|h", "curl|-sbsid=***|h"),
        ("curl|--cookie|sid=abc|h", "curl|--cookie|sid=***|h"),
        ("curl|--cookie=sid=abc|h", "curl|--cookie=sid=***|h"),
        ("sh|-c|curl -b sid=abc h", "sh|-c|curl -b sid=*** h"),
        (
            "sh|-c|curl -b 'sid=abc; t=x' h",
            "sh|-c|curl -b 'sid=***' h",
        ),
        (
            "docker|--config|x|login|-p|s3",
            "docker|--config|x|login|-p|***",
        ),
        (
            "sh|-c|docker -D login -p s3",
            "sh|-c|docker -D login -p ***",
        ),
        (
            "sshpass|-P|prompt|-p|x|ssh|-p|22",
            "sshpass|-P|prompt|-p|***|ssh|-p|22",
        ),
        (
            "sh|-c|sshpass -P prompt -p x ssh",
            "sh|-c|sshpass -P prompt -p *** ssh",
        ),
        (
            "sh|-c|which sshpass; sshpass -p x ssh",
            "sh|-c|which sshpass; sshpass -p *** ssh",
        ),
    ] {
        assert_eq!(masked(line), expected, "of {line}");
    }
}

#[test]
fn neighbours_of_the_wider_rules_stay() {
    for line in [
        "mysql|--password|--secret",
        "env|PWD=/srv|OLDPWD=/|cmd",
        "apptainer|run|--pwd|/srv|x",
        "apptainer|run|--pwd=/srv|x",
        "sh|-c|apptainer run --pwd /srv x",
        "app|--maxtoken|5",
        "app|--tokens|5",
        "app|--accessTokenFile|/x",
        "curl|http://[::1]:8080/a@b",
        "curl|http://h:80/a/b@c",
        "npm|http://h:4873/@scope/x@1",
        "git|clone|ssh://git@h:22/x@y",
        "curl|-b|cookies.txt|https://h/?a=b",
        "curl|--cookie-jar|a=b|h",
        "sh|-c|curl -b cookies.txt https://h/?a=b",
        "app|-b|a=b",
        "git|commit|-m|fix the cookie: it was stale",
        "python|-c|f({'passwords': 'x'})",
        "docker|--config|x|run|-p|80:80|login",
        "sshpass|-e|ssh|-p|22|host",
        "sshpass|-f|file|ssh|-p|22|host",
        "sh|-c|sshpass -e ssh -p 22 host",
    ] {
        assert_eq!(masked(line), line);
    }
}

/// What makes masking slow, 32 KiB of it.
fn slow() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let pieces = [
        "authorization: bearer x",
        "authorization: bearer xxxxxxxxxxxxxxxx ",
        "--password\0x\0",
        "--no-password\0x\0",
        "a token=x\0",
        "PASSWORD=",
        "://a:",
        "://a:b@",
        "://a:b/",
        "curl -u a:b ",
        "curl\0-b\0a=b\0",
        "docker -x ",
        "sshpass -P ",
        "x-token",
        "eyJaaaaa.",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN ",
        "password\": \"\\",
        "token=x\0 a b c d e f g h i j k l m n o p q r s t u v w x y z\0",
    ];
    pieces.into_iter().flat_map(|piece| {
        let all = piece.repeat(32768 / piece.len());
        // One secret at the end, and one that is as long as it can be.
        let end = format!("{}curl\0-u\0a:b\0--token=c\0", "a ".repeat(16000));
        let long = format!("{piece}{}", "a".repeat(32000));
        [all, end, long].map(|block| (piece, format!("app\0{block}").into_bytes()))
    })
}

#[test]
fn no_bytes_cost_more_work_than_is_allowed() {
    for (piece, block) in slow() {
        for truncated in [false, true] {
            let found = Secrets::default().find(&block, truncated);
            assert!(found.work <= WORK_MAX, "{piece}: {}", found.work);
            assert!(found.matches <= MATCHES_MAX, "{piece}: {}", found.matches);
        }
    }
}

#[test]
fn what_would_be_too_much_work_keeps_the_name_of_the_program_alone() {
    let block = block(&format!("app|--token={}|x", "a".repeat(32000)));
    assert_eq!(
        Secrets::default().mask(&block, false).unwrap(),
        b"app\0***\0***\0"
    );
}

#[test]
fn one_secret_in_a_large_block_is_masked_alone() {
    let classes = "lib.jar:".repeat(3500);
    let line = format!("java|-cp|{classes}|-Ddb.password=hunter2|Main");
    let expected = format!("java|-cp|{classes}|-Ddb.password=***|Main");
    assert!(masked(&line) == expected);
}

#[test]
fn secrets_far_from_each_other_are_all_masked() {
    let line = "app|--token|a|b|c|d|--password=e|f|g|h|https://u:i@j|k";
    let expected = "app|--token|***|b|c|d|--password=***|f|g|h|https://u:***@j|k";
    assert_eq!(masked(line), expected);
}

#[test]
fn a_secret_that_was_cut_is_masked() {
    let secrets = Secrets::default();
    for (cut, expected) in [
        (&b"app\0--password\0hun"[..], &b"app\0--password\0***"[..]),
        (b"app\0TOKEN=hun", b"app\0TOKEN=***"),
        (b"app\0AKIAIOS", b"app\0***"),
        (b"app\0ghp_abc", b"app\0***"),
        (b"app\0eyJhbGci.eyJ", b"app\0***"),
        (b"app\0https://tom:hun", b"app\0https://tom:***"),
        (b"app\0https://tom:hu/n", b"app\0https://tom:***"),
        (b"app\0-----BEGIN RSA PRI", b"app\0***"),
    ] {
        let masked = secrets.mask(cut, true).unwrap_or_default();
        assert_eq!(masked, expected, "{}", cut.escape_ascii());
    }
    assert_eq!(secrets.mask(b"app\0https://host/pa", true), None);
}

#[test]
fn a_pattern_of_a_user_masks_its_group_or_all_of_it_across_arguments() {
    let own = |pattern: &str| Secrets::new(false, vec![pattern.parse().unwrap()]);
    assert_eq!(
        masked_by(&own(r"--pin (\d+)"), "x|--pin|42|7"),
        "x|--pin|***|7"
    );
    assert_eq!(masked_by(&own("b.*"), "a|b|cc|d"), "a|***|***|***");
    assert_eq!(masked_by(&own("x(y)?"), "x|xy"), "x|x***");
    assert_eq!(masked_by(&own("q"), "app|--password|p"), "app|--password|p");
}

#[test]
fn a_wrong_pattern_is_refused_with_its_position() {
    for (pattern, expected) in [
        ("ab(c", "at character 3: unclosed group"),
        ("a**[", "at character 4: unclosed character class"),
        (r"\p{Greek}", "at character 1: Unicode not allowed here"),
    ] {
        assert_eq!(pattern.parse::<Pattern>().unwrap_err(), expected);
    }
    let large = "(?:a{1000}){1000}";
    assert_eq!(large.parse::<Pattern>().unwrap_err(), "it is too large");
}

/// Words that the rules know, and what separates them.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 22] = [
        b"\0",
        b"\0\0",
        b" ",
        b"=",
        b"--",
        b"-p",
        b"-u",
        b"password",
        b"token",
        b"curl",
        b"mysql",
        b"sshpass",
        b"://",
        b"@",
        b":",
        b"eyJ",
        b".",
        b"AKIAIOSFODNN7EXAMPLE",
        b"ghp_",
        b"\xff\x80",
        b"_KEY=",
        b"-----BEGIN ",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn masking_never_changes_the_number_of_arguments(block in hostile(), truncated: bool) {
        let secrets = Secrets::new(true, vec!["[a-z]+".parse().unwrap()]);
        if let Some(masked) = secrets.mask(&block, truncated) {
            let count = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == 0).count();
            prop_assert_eq!(count(&masked), count(&block));
        }
    }
}

#[test]
fn more_secrets_than_anybody_has_cost_all_arguments() {
    let line = format!("app{}", "|a token=x".repeat(MATCHES_MAX));
    assert_eq!(masked(&line), format!("app{}", "|***".repeat(MATCHES_MAX)));
}
