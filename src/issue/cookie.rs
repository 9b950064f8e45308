//! `Set-Cookie` of sessions: always `HttpOnly` and `Secure`, never with `Domain` (RFC 6265bis).

use std::time::Duration;

use crate::decide::surface::CookieSpec;

/// The value of a `Set-Cookie` field that sets this token. `remaining` is how long its session lives at
/// most; a cookie that says how long it is kept is not kept longer.
#[must_use]
pub fn set(spec: &CookieSpec, token: &str, remaining: Duration) -> String {
    let mut value = begin(spec, token);
    if let Some(max_age) = spec.max_age {
        value.push_str(&format!("; Max-Age={}", max_age.min(remaining).as_secs()));
    }
    value
}

/// The value of a `Set-Cookie` field that removes it: the same name and path, empty and out of date.
#[must_use]
pub fn remove(spec: &CookieSpec) -> String {
    let mut value = begin(spec, "");
    value.push_str("; Max-Age=0");
    value
}

fn begin(spec: &CookieSpec, token: &str) -> String {
    let CookieSpec { name, same_site, path, .. } = spec;
    format!("{name}={token}; Path={path}; HttpOnly; Secure; SameSite={}", same_site.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::surface::SameSite;

    fn spec(max_age: Option<u64>) -> CookieSpec {
        CookieSpec {
            name: "__Host-session".into(),
            same_site: SameSite::Lax,
            path: "/".into(),
            max_age: max_age.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_session_cookie_is_out_of_reach_of_scripts_and_plain_http() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            set(&spec(None), "a.b.c", hour),
            "__Host-session=a.b.c; Path=/; HttpOnly; Secure; SameSite=Lax"
        );
        assert!(set(&spec(Some(60)), "a.b.c", hour).ends_with("SameSite=Lax; Max-Age=60"));
        assert!(
            set(&spec(Some(7_200)), "a.b.c", hour).ends_with("; Max-Age=3600"),
            "not kept beyond the session"
        );
    }

    #[test]
    fn a_cookie_is_removed_under_its_own_name_and_path() {
        assert_eq!(
            remove(&spec(Some(60))),
            "__Host-session=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"
        );
    }
}
