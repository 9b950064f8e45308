//! Where a shared store is: one server, sentinels or a cluster, with TLS and users of their own.

use std::path::Path;

use super::cases::Case;
use super::cases::store::{REDIS, REDIS_CASES};
use super::*;
use crate::config::error::ProblemSeverity;
use crate::snapshot::StoreKind;
use crate::store::redis::{RedisAccess, Servers, WaitReplicas};

fn files(store: &str) -> InMemory {
    let made = rcgen::generate_simple_self_signed(vec!["redis.example".to_owned()]).unwrap();
    let mut files = table(&[
        ("gateway.toml", &format!("{GATEWAY}{REDIS}{store}")),
        ("upstreams/orders.toml", ORDERS),
        ("ca.pem", &made.cert.pem()),
        ("key.pem", &made.signing_key.serialize_pem()),
    ]);
    for (name, value) in [
        ("P", "0123456789abcdef0123456789abcdef"),
        ("WITH_USER", "redis://u:canary@h"),
        ("PASSWORD", "canary-1"),
        ("SENTINEL_PASSWORD", "canary-2"),
    ] {
        files.variables.insert(name.into(), value.into());
    }
    files
}

fn access(store: &str) -> RedisAccess {
    let loaded = check(&files(store)).unwrap_or_else(|errors| panic!("{store}: {errors}"));
    match loaded.settings.store.kind {
        StoreKind::Redis { access, .. } => *access,
        StoreKind::Embedded { .. } => panic!("a redis store was asked for"),
    }
}

#[test]
fn each_mistake_about_redis_is_found_alone_and_in_its_place() {
    assert!(REDIS_CASES.len() > 10);
    for Case(added, under, message) in REDIS_CASES {
        let files = files(added);
        let errors = check(&files).err().unwrap_or_else(|| panic!("{added} loads"));
        let text = format!("{GATEWAY}{REDIS}{added}");
        let found: Vec<_> = errors
            .problems
            .iter()
            .map(|d| {
                let line = text.lines().nth(d.line.saturating_sub(1)).unwrap_or("");
                let at: String = line.chars().skip(d.column.saturating_sub(1)).collect();
                (at, d.problem.message.clone())
            })
            .collect();
        let good = found.len() == 1 && found[0].1.contains(message) && found[0].0.starts_with(under);
        assert!(good, "`{message}` at `{under}`: {found:#?}");
        assert!(!errors.to_string().contains("canary"), "{errors}");
    }
}

#[test]
fn changes_wait_for_all_replicas_unless_a_number_is_written() {
    let waits = |store: &str| {
        let loaded = check(&files(store)).unwrap_or_else(|errors| panic!("{store}: {errors}"));
        match loaded.settings.store.kind {
            StoreKind::Redis { wait_replicas, .. } => wait_replicas,
            StoreKind::Embedded { .. } => panic!("a redis store was asked for"),
        }
    };
    assert_eq!(waits("cluster = [\"a:1\"]\n"), WaitReplicas::All);
    assert_eq!(waits("cluster = [\"a:1\"]\nwait_replicas = \"all\"\n"), WaitReplicas::All);
    assert_eq!(waits("cluster = [\"a:1\"]\nwait_replicas = 0\n"), WaitReplicas::Count(0));
    assert_eq!(waits("cluster = [\"a:1\"]\nwait_replicas = 8\n"), WaitReplicas::Count(8));
}

#[test]
fn what_a_number_of_replicas_risks_is_said_where_another_server_may_be_promoted() {
    let told = |store: &str| {
        let loaded = check(&files(store)).unwrap_or_else(|errors| panic!("{store}: {errors}"));
        let about = loaded.warnings.iter().filter(|d| d.problem.message.contains("promote"));
        about.map(|d| (d.problem.weight, d.problem.message.clone())).collect::<Vec<_>>()
    };
    let sentinels = "sentinels = [\"s1\"]\nservice = \"main\"\n";
    let cluster = "cluster = [\"a:1\"]\n";
    for place in [sentinels, cluster] {
        for (number, weight, says) in [
            (0, ProblemSeverity::Warning, "waits for a replica"),
            (1, ProblemSeverity::Note, "more than 1 replica "),
        ] {
            let found = told(&format!("{place}wait_replicas = {number}\n"));
            assert!(
                matches!(&found[..], [(is, text)] if *is == weight && text.contains(says)),
                "{found:?}"
            );
        }
        assert_eq!(told(place), []);
    }
    assert_eq!(
        told("url = \"redis://h\"\nwait_replicas = 0\n"),
        [],
        "whether there is a replica is not known"
    );
}

#[test]
fn the_documented_stores_wait_for_all_replicas_and_load_without_a_warning() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md")).unwrap();
    let blocks = document
        .split("```text\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0));
    let mut read = 0;
    for sample in blocks.filter(|block| block.contains("kind = \"redis\"")) {
        read += 1;
        let store = format!("{sample}\npepper = \"env:P\"\n");
        let made = rcgen::generate_simple_self_signed(vec!["redis.example".to_owned()]).unwrap();
        let mut files = table(&[
            ("gateway.toml", &format!("{GATEWAY}{store}")),
            ("upstreams/orders.toml", ORDERS),
            ("redis-ca.pem", &made.cert.pem()),
            ("redis-password", "canary"),
            ("sentinel-password", "canary"),
        ]);
        files.files.insert("/etc/durward/redis-password".into(), "canary".into());
        files.variables.insert("P".into(), "0123456789abcdef0123456789abcdef".into());
        let loaded = check(&files).unwrap_or_else(|errors| panic!("{sample}: {errors}"));
        let StoreKind::Redis { wait_replicas, .. } = loaded.settings.store.kind else {
            panic!("{sample}")
        };
        assert_eq!(wait_replicas, WaitReplicas::All, "{sample}");
        assert_eq!(
            loaded.warnings.iter().map(|d| d.to_string()).collect::<Vec<_>>(),
            [] as [String; 0],
            "{sample}"
        );
    }
    assert_eq!(read, 3, "one server, sentinels, a cluster");
}

#[test]
fn a_url_names_one_server_and_may_leave_the_user_to_other_keys() {
    let whole = access("url = \"env:WITH_USER\"\n");
    assert!(matches!(&whole.servers, Servers::One(e) if e.to_string() == "h:6379"));
    assert_eq!(whole.user.name.as_deref(), Some("u"));
    let apart = access("url = \"redis://h:7000/3\"\nusername = \"v\"\npassword = \"env:PASSWORD\"\n");
    assert_eq!(
        (apart.user.name.as_deref(), apart.database, apart.tls.is_some()),
        (Some("v"), 3, false)
    );
}

#[test]
fn sentinels_have_users_of_their_own_and_the_tls_of_the_store() {
    let access = access(
        "sentinels = [\"s1\", \"s2:7000\", \"[::1]:7001\"]\nservice = \"main\"\ndatabase = 1\n\
         username = \"u\"\npassword = \"env:PASSWORD\"\n\
         sentinel_username = \"watcher\"\nsentinel_password = \"env:SENTINEL_PASSWORD\"\ntls = { ca = \"ca.pem\" }\n",
    );
    let Servers::Sentinels(sentinels) = &access.servers else {
        panic!("{access:?}")
    };
    let shown: Vec<_> = sentinels.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["s1:26379", "s2:7000", "[::1]:7001"]);
    assert_eq!((sentinels.service.as_str(), access.database), ("main", 1));
    assert_eq!(sentinels.user.name.as_deref(), Some("watcher"));
    assert!(sentinels.user != access.user && access.tls.is_some() && sentinels.tls == access.tls);
    assert!(!format!("{access:?}").contains("canary"));
}

#[test]
fn the_age_of_facts_and_the_check_of_streams_fit_the_bound_and_trust_in_sentinels_adds_nothing() {
    let sentinels = "sentinels = [\"a:1\", \"b:1\", \"c:1\"]\nservice = \"main\"\n";
    let seconds = |more: &str| {
        let settings = check(&files(&format!("{sentinels}{more}"))).unwrap().settings;
        let both = (settings.store.max_age, settings.stream_check);
        assert!(
            both.0 + both.1 + std::time::Duration::from_secs(5) <= settings.revocation_bound,
            "{both:?}"
        );
        (both.0.as_secs(), both.1.as_secs())
    };
    assert_eq!(seconds(""), (30, 15));
    assert_eq!(seconds("max_age = \"54s\"\n"), (54, 1));
    assert_eq!(seconds("max_age = \"50s\"\n[revocation]\nstream_check = \"5s\"\n"), (50, 5));
    let refused = |more: &str| check(&files(&format!("{sentinels}{more}"))).err().unwrap().to_string();
    let sum = refused("max_age = \"50s\"\n[revocation]\nstream_check = \"6s\"\n");
    assert!(
        sum.contains("`stream_check` may be at most 5s: the revocation bound of 1m less `max_age` and 5 s"),
        "{sum}"
    );
    let alone = refused("max_age = \"25s\"\n[revocation]\nbound = \"30s\"\n");
    assert!(
        alone.contains("`max_age` may be at most 24s") && alone.contains("shortest `stream_check`"),
        "{alone}"
    );
}

#[test]
fn tls_has_its_own_authority_client_certificate_and_name() {
    let tls = |more: &str| {
        access(&format!("url = \"rediss://10.0.0.1:6380\"\n[store.tls]\nca = \"ca.pem\"\n{more}"))
            .tls
            .unwrap()
    };
    let plain = tls("");
    let with_name = tls("server_name = \"redis.example\"\n");
    assert!(plain.server_name.is_none() && with_name.server_name.is_some());
    let with_key = tls("client_cert = \"ca.pem\"\nclient_key = \"file:key.pem\"\n");
    assert!(with_key.config.client_auth_cert_resolver.has_certs() && !plain.config.client_auth_cert_resolver.has_certs());
}

#[test]
fn a_change_of_where_the_store_is_waits_for_a_restart() {
    let settings = |store: &str| check(&files(store)).unwrap().settings;
    let before = settings("cluster = [\"a:1\"]\n");
    assert_eq!(settings("cluster = [\"a:1\"]\n").needing_restart(&before), Vec::<&str>::new());
    for other in [
        "cluster = [\"a:2\"]\n",
        "cluster = [\"a:1\"]\npassword = \"env:PASSWORD\"\n",
        "cluster = [\"a:1\"]\nwait_replicas = 1\n",
        "cluster = [\"a:1\"]\ntls = { ca = \"ca.pem\" }\n",
        "url = \"redis://a:1\"\n",
    ] {
        assert_eq!(settings(other).needing_restart(&before), ["store"], "{other}");
    }
}

/// The servers of a store at this URL, written down or in a variable, or what is said about it.
fn server_at(url: &str) -> String {
    let mut told = Vec::new();
    for reference in [format!("\"{url}\""), "\"env:URL\"".to_owned()] {
        if url.contains('@') && !reference.starts_with("\"env:") {
            continue;
        }
        let gateway = format!("{GATEWAY}[store]\nkind = \"redis\"\nurl = {reference}\npepper = \"env:P\"\n");
        let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
        files.variables.insert("P".into(), "p".repeat(32));
        files.variables.insert("URL".into(), url.to_owned());
        told.push(match check(&files) {
            Ok(loaded) => match loaded.settings.store.kind {
                StoreKind::Redis { access, .. } => match &access.servers {
                    Servers::One(endpoint) => format!("{endpoint} tls={}", access.tls.is_some()),
                    _ => "several".to_owned(),
                },
                StoreKind::Embedded { .. } => "embedded".to_owned(),
            },
            Err(errors) => errors.to_string(),
        });
    }
    told.join("\n")
}

#[test]
fn an_address_is_understood_as_people_write_it_or_told_how_to_write() {
    let plain = server_at("redis://127.0.0.1:7000");
    for same in ["valkey://127.0.0.1:7000", "127.0.0.1:7000"] {
        assert_eq!(server_at(same), plain, "{same}");
    }
    assert!(plain.contains("7000") && plain.ends_with("tls=false"), "{plain}");
    assert!(!server_at("valkey://u:secret@h/3").contains("error"));
    // No authorities are in a table, so that TLS gets as far as to ask for them.
    for tls in ["rediss://h", "valkeys://h"] {
        assert!(server_at(tls).contains("certificate authorities"), "{}", server_at(tls));
    }
    for (wrong, help) in [
        ("tls://u:canary-4711@h", "with TLS write rediss://"),
        ("https://u:canary-4711@h", "with TLS write rediss://"),
        ("http://u:canary-4711@h", "without TLS write redis://"),
        ("redis-sentinel://u:canary-4711@h", "name the sentinels"),
        ("redis-cluster://u:canary-4711@h", "name some nodes"),
        ("unix://u:canary-4711@h", "host and port of the server"),
        ("canary-4711@x", "for example redis://user:password@host:6379/0"),
    ] {
        let told = server_at(wrong);
        assert!(told.contains(help) && !told.contains("canary"), "{wrong}: {told}");
    }
}
