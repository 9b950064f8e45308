//! The parameters of a matched path.

/// Values of a path's parameters, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathValues(Vec<(String, String)>);

impl PathValues {
    /// Reads the parameters of a canonical path that matched this pattern. Values stay as they are
    /// written in the path: what is still encoded there is no id and names nothing.
    #[must_use]
    pub fn read(pattern: &str, path: &str) -> Self {
        let segments = pattern.split('/').zip(path.split('/'));
        let named = segments.filter_map(|(wanted, found)| {
            let name = wanted.strip_prefix('{')?.strip_suffix('}')?;
            Some((name.to_owned(), found.to_owned()))
        });
        Self(named.collect())
    }

    /// The value of a parameter.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_by_place() {
        let values = PathValues::read("/v1/tenants/{tenant}/keys/{key}", "/v1/tenants/acme/keys/key_1/");
        assert_eq!(values.iter().collect::<Vec<_>>(), [("tenant", "acme"), ("key", "key_1")]);
        assert_eq!(values.find("key"), Some("key_1"));
        assert_eq!(values.find("v1"), None);
        assert_eq!(PathValues::read("/v1/keys", "/v1/keys"), PathValues::default());
        assert_eq!(PathValues::read("/t/{id}", "/t/a%2Fb").find("id"), Some("a%2Fb"));
    }
}
