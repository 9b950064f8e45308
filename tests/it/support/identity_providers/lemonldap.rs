//! `LemonLDAP::NG` of Debian: an OpenID provider and a SAML identity provider in one portal.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::SigningPair;
use super::front::Front;
use super::program::{Program, source};

/// A client of its OpenID provider.
pub(crate) struct RelyingParty<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) post_logout_redirect_uri: &'a str,
}

/// One that runs. `dwho`, `rtyler` and `msmith` can log in; each password is the login name. `dwho` and `rtyler` are in groups.
pub(crate) struct LemonLdap {
    front: Front,
    folder: TempDir,
    pair: SigningPair,
    clients: Value,
    program: Option<Program>,
}

impl LemonLdap {
    /// Starts one for these clients.
    pub(crate) fn start(clients: &[RelyingParty<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["conf", "cache", "sessions/lock", "persistent/lock"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mut portal = Self {
            front: Front::of(&["localhost"]),
            folder,
            pair: SigningPair::new("lemonldap"),
            clients: of_clients(clients),
            program: None,
        };
        portal.write("lemonldap-ng.ini", &INI.replace("{folder}", &portal.path("")));
        portal.run(&json!({}));
        portal
    }

    /// Knows this service provider from now on, and no other. The portal is started anew on the same port; whoever is logged in
    /// stays so.
    pub(crate) fn set_service_provider(&mut self, metadata: &str, encrypt: Encrypt) {
        let encrypt = match encrypt {
            Encrypt::Nothing => "none",
            Encrypt::Assertion => "assertion",
        };
        let options = json!({
            "samlSPMetaDataOptionsNameIDFormat": "persistent",
            "samlSPMetaDataOptionsNameIDSessionKey": "uid",
            "samlSPMetaDataOptionsSignSSOMessage": 1,
            "samlSPMetaDataOptionsSignSLOMessage": 1,
            "samlSPMetaDataOptionsCheckSSOMessageSignature": 1,
            "samlSPMetaDataOptionsCheckSLOMessageSignature": 1,
            "samlSPMetaDataOptionsEncryptionMode": encrypt,
            "samlSPMetaDataOptionsEnableIDPInitiatedURL": 1,
        });
        let attributes = json!({
            "mail": "1;mail;urn:oasis:names:tc:SAML:2.0:attrname-format:basic;",
            "cn": "1;displayName;urn:oasis:names:tc:SAML:2.0:attrname-format:basic;",
            "groups": "0;groups;urn:oasis:names:tc:SAML:2.0:attrname-format:basic;",
        });
        self.run(&json!({
            "samlSPMetaDataXML": { "sp": { "samlSPMetaDataXML": metadata } },
            "samlSPMetaDataOptions": { "sp": options },
            "samlSPMetaDataExportedAttributes": { "sp": attributes },
        }));
    }

    /// Its issuer identifier as an OpenID provider, which is its URL and ends with a slash.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/", self.front.url("localhost"))
    }

    /// Where whoever is logged in logs out.
    pub(crate) fn log_out_url(&self) -> String {
        format!("{}?logout=1", self.issuer())
    }

    /// Where it listens.
    pub(crate) const fn front(&self) -> &Front {
        &self.front
    }

    /// Where its SAML metadata is, which is its name too.
    pub(crate) fn entity_id(&self) -> String {
        format!("{}saml/metadata", self.issuer())
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn run(&mut self, service_provider: &Value) {
        self.program = None;
        let mut settings = self.settings();
        for part in [self.openid(), self.saml(), service_provider.clone()] {
            let Value::Object(part) = part else {
                unreachable!("settings are members")
            };
            settings.as_object_mut().unwrap().extend(part);
        }
        self.write("conf/lmConf-1.json", &settings.to_string());
        let mut perl = Command::new("perl");
        perl.arg(source("lemonldap.pl"))
            .env("LLNG_DEFAULTCONFFILE", self.path("lemonldap-ng.ini"));
        let program = Program::start(perl, &self.folder.path().join("log"));
        self.front.lead_to(program.port);
        self.program = Some(program);
    }

    fn settings(&self) -> Value {
        let store = |name: &str| json!({ "Directory": self.path(name), "LockDirectory": self.path(&format!("{name}/lock")) });
        json!({
            "cfgNum": 1, "cfgAuthor": "a test", "cfgDate": 1_793_000_000, "cfgVersion": "2.16.1",
            "portal": self.issuer(), "domain": "localhost", "cookieName": "lemonldap", "securedCookie": 1,
            "authentication": "Demo", "userDB": "Same", "passwordDB": "Demo", "registerDB": "Null",
            "demoExportedVars": { "cn": "cn", "mail": "mail", "uid": "uid" },
            "groups": { "staff": "$uid eq 'dwho' or $uid eq 'rtyler'", "admins": "$uid eq 'dwho'" },
            "whatToTrace": "uid", "macros": { "_whatToTrace": "$uid" },
            "globalStorage": "Apache::Session::File", "globalStorageOptions": store("sessions"),
            "persistentStorage": "Apache::Session::File", "persistentStorageOptions": store("persistent"),
            "localSessionStorage": "Cache::FileCache",
            "localSessionStorageOptions": {
                "cache_root": self.path("cache"), "cache_depth": 1, "default_expires_in": 600, "namespace": "sessions",
            },
            "locationRules": { "localhost": { "default": "accept" } },
            "captcha": "::Captcha::None", "captcha_mail_enabled": 0, "captcha_register_enabled": 0,
            "portalDisplayResetPassword": 0, "portalDisplayRegister": 0, "loginHistoryEnabled": 0,
        })
    }

    fn openid(&self) -> Value {
        json!({
            "issuerDBOpenIDConnectActivation": 1, "issuerDBOpenIDConnectRule": 1, "issuerDBOpenIDConnectPath": "^/oauth2/",
            "oidcServicePrivateKeySig": self.pair.key, "oidcServicePublicKeySig": self.pair.public, "oidcServiceKeyIdSig": "key-1",
            "oidcServiceAllowAuthorizationCodeFlow": 1,
            "oidcRPMetaDataOptions": self.clients,
            "oidcRPMetaDataExportedVars": self.of_each_client(&json!({ "email": "mail", "name": "cn", "groups": "groups" })),
            "oidcRPMetaDataOptionsExtraClaims": self.of_each_client(&json!({ "profile": "name groups" })),
        })
    }

    fn saml(&self) -> Value {
        json!({
            "issuerDBSAMLActivation": 1, "issuerDBSAMLRule": 1, "issuerDBSAMLPath": "^/saml/",
            "samlServicePrivateKeySig": self.pair.key, "samlServicePublicKeySig": self.pair.certificate,
            "samlServiceSignatureMethod": "RSA_SHA256", "samlEntityID": "#PORTAL#/saml/metadata",
        })
    }

    fn of_each_client(&self, value: &Value) -> Value {
        let names = self.clients.as_object().unwrap().keys();
        names
            .map(|name| (name.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// What a SAML identity provider encrypts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Encrypt {
    Nothing,
    Assertion,
}

fn of_clients(clients: &[RelyingParty<'_>]) -> Value {
    let options = clients.iter().map(|client| {
        let options = json!({
            "oidcRPMetaDataOptionsClientID": client.id,
            "oidcRPMetaDataOptionsClientSecret": client.secret,
            "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
            "oidcRPMetaDataOptionsBypassConsent": 1,
            "oidcRPMetaDataOptionsRequirePKCE": 1,
            "oidcRPMetaDataOptionsRedirectUris": client.redirect_uri,
            "oidcRPMetaDataOptionsPostLogoutRedirectUris": client.post_logout_redirect_uri,
        });
        (client.id.to_owned(), options)
    });
    options.collect::<serde_json::Map<_, _>>().into()
}

const INI: &str = "
[all]
logLevel = warn
checkTime = 600
logger = Lemonldap::NG::Common::Logger::Std
[configuration]
type = File
dirName = {folder}/conf
localStorage = Cache::FileCache
localStorageOptions = { namespace => 'configuration', default_expires_in => 1, cache_root => '{folder}/cache', cache_depth => 1 }
[portal]
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
";
