//! Kafka's jars.
//!
//! Owns: which version, from where, the logging settings beside them. Maven resolves the dependencies; the project
//! publishes no archive there that would hold them all.

use crate::{cache, subprocess};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Not 4.4.0: its kafka-tools is not on Maven Central.
const VERSION: &str = "4.3.1";
const LOG4J_VERSION: &str = "2.25.4";

const LOGGING: &str = "status=warn
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
";

/// The folder with `jars/` and `log4j2.properties`.
pub(in crate::services) fn install() -> Result<PathBuf> {
    subprocess::require("java", "default-jre-headless")?;
    cache::tool(&format!("kafka-{VERSION}"), "45 MB from Maven Central, about 15 s", |folder| {
        subprocess::require("mvn", "maven")?;
        std::fs::write(folder.join("pom.xml"), project())?;
        std::fs::write(folder.join("log4j2.properties"), LOGGING)?;
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", folder.join("jars").display())).current_dir(folder);
        subprocess::run(&mut maven).map(drop)
    })
}

/// A project without code whose dependencies are the broker, its tools and a logging back end, which the broker does
/// not bring.
fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>\
             <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>\
             <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-json</artifactId></exclusion></exclusions>\
             </dependency>\n"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ];
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>millstream</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{}</dependencies>\n</project>\n",
        dependencies.concat()
    )
}
