//! Against moto: what is made is what was wished, as AWS's own client shows it.

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Cloud, Ingress, MachinePhase, Owner, Source};
use hanse_adapters_core::preflight::Severity;
use hanse_adapters_ec2::{Ec2Cloud, Ec2Target};
use hanse_fixtures::ec2::Server;

use crate::{block_on, credentials, owner, wish};

/// One region of a server, as AWS's own client shows it.
struct Eye<'a> {
    moto: &'a Server,
    region: &'static str,
}

impl Eye<'_> {
    /// All that there is of one kind, as text that two looks can be compared by.
    fn shown(&self, what: &str) -> String {
        self.boto(&format!("print(json.dumps({what}, default=str, sort_keys=True))"))
    }

    fn boto(&self, script: &str) -> String {
        self.moto.boto_in(self.region, script).unwrap()
    }
}

/// Regions share nothing, so one server is enough for all of these.
#[test]
fn machines_and_what_they_stand_on() {
    let dir = tempfile::tempdir().unwrap();
    let moto = Server::moto(dir.path(), &[], &[]).unwrap();
    type Check = fn(&Ec2Cloud, &Eye<'_>);
    let checks: [(&'static str, Check); 5] = [
        ("us-east-1", a_machine_has_all_it_needs_from_the_order_on_and_nothing_is_left_of_it),
        ("us-east-2", the_group_lets_in_what_is_wished_and_nothing_else),
        ("us-west-1", strangers_are_neither_seen_nor_touched),
        ("us-west-2", a_disk_that_lost_its_machine_is_cleared),
        ("eu-west-1", a_first_look_finds_what_is_wrong_and_makes_nothing),
    ];
    for (region, check) in checks {
        let target = Ec2Target { endpoint: moto.endpoint(), region: region.into(), is_public: false };
        let cloud = Ec2Cloud::new(&target, credentials(dir.path(), "test", "test-secret", None)).unwrap();
        check(&cloud, &Eye { moto: &moto, region });
    }
}

fn a_machine_has_all_it_needs_from_the_order_on_and_nothing_is_left_of_it(cloud: &Ec2Cloud, eye: &Eye<'_>) {
    let before = eye.shown("len(ec2.describe_security_groups()['SecurityGroups'])");
    let mut wished = wish("m1");
    wished.zone = "us-east-1b".into();
    wished.disk_gib = 21;
    let machine = block_on(cloud.ensure(&wished)).unwrap();
    assert_eq!((machine.machine.as_str(), machine.token.as_str()), ("m1", wished.key.token.as_str()));
    assert_eq!(
        (block_on(cloud.ensure(&wished)).unwrap().id, machine.zone.as_str()),
        (machine.id.clone(), "us-east-1b")
    );

    let instance = eye.shown(
        "(lambda i: [i['ClientToken'], i['Placement']['AvailabilityZone'], i['PrivateIpAddress'], i['InstanceType'], \
         sorted((t['Key'], t['Value']) for t in i['Tags']), len(i['SecurityGroups'])])\
         (ec2.describe_instances()['Reservations'][0]['Instances'][0])",
    );
    let address = machine.address.clone().unwrap();
    let token = &wished.key.token;
    let cluster = &owner().cluster;
    assert_eq!(
        instance,
        format!(
            r#"["{token}", "us-east-1b", "{address}", "t3.micro", [["Name", "hanse-m1"], ["hanse:cloud", "east"], ["hanse:cluster", "{cluster}"], ["hanse:machine", "m1"], ["hanse:token", "{token}"]], 1]"#
        )
    );
    let volume = eye.shown("[(v['Size'], len(v['Tags'])) for v in ec2.describe_volumes()['Volumes']]");
    assert_eq!(volume, "[[21, 5]]");
    let data = format!(
        "__import__('base64').b64decode(ec2.describe_instance_attribute(InstanceId='{}', Attribute='userData')\
         ['UserData']['Value']).decode()",
        machine.id
    );
    assert_eq!(eye.shown(&data), r##""#cloud-config\nssh_deletekeys: true\n""##);
    let keys = eye.shown("[k['KeyType'] for k in ec2.describe_key_pairs()['KeyPairs']]");
    assert_eq!(keys, r#"["ed25519"]"#);

    block_on(cloud.delete(&owner(), &machine.id)).unwrap();
    let ended = block_on(cloud.find(&wished.key, Some(&machine.id))).unwrap();
    assert!(ended.iter().all(|it| it.id == machine.id && it.phase == MachinePhase::Ended), "{ended:?}");
    block_on(cloud.delete(&owner(), &machine.id)).unwrap();
    let gone = block_on(cloud.clear(&owner())).unwrap();
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert_eq!(eye.shown("len(ec2.describe_security_groups()['SecurityGroups'])"), before);
    assert_eq!(eye.shown("[ec2.describe_key_pairs()['KeyPairs'], ec2.describe_volumes()['Volumes']]"), "[[], []]");
    assert_eq!(block_on(cloud.clear(&owner())).unwrap(), Vec::<String>::new());
}

const RULES: &str = "sorted((p['FromPort'], p['ToPort'], p['IpProtocol'], [r['CidrIp'] for r in p['IpRanges']], \
                     len(p['UserIdGroupPairs'])) for g in ec2.describe_security_groups()['SecurityGroups'] \
                     if g['GroupName'].startswith('hanse-') for p in g['IpPermissions'])";

fn the_group_lets_in_what_is_wished_and_nothing_else(cloud: &Ec2Cloud, eye: &Eye<'_>) {
    block_on(cloud.ensure(&wish("m1"))).unwrap();
    assert_eq!(eye.shown(RULES), r#"[[22, 22, "tcp", ["10.9.0.0/16"], 0], [30000, 30099, "tcp", [], 1]]"#);
    // A hand opened it to the world, and the setting changes.
    eye.boto(
        "g = [g for g in ec2.describe_security_groups()['SecurityGroups'] if g['GroupName'].startswith('hanse-')][0]\n\
         ec2.authorize_security_group_ingress(GroupId=g['GroupId'], IpProtocol='tcp', FromPort=1, ToPort=65535, \
         CidrIp='0.0.0.0/0')",
    );
    let mut wished = wish("m2");
    wished.ingress[0] = Ingress { port_first: 22, port_last: 22, from: Source::Cidr("10.8.0.0/16".into()) };
    block_on(cloud.ensure(&wished)).unwrap();
    assert_eq!(eye.shown(RULES), r#"[[22, 22, "tcp", ["10.8.0.0/16"], 0], [30000, 30099, "tcp", [], 1]]"#);
    assert_eq!(eye.shown("len(ec2.describe_key_pairs()['KeyPairs'])"), "1", "one key for all");
}

fn strangers_are_neither_seen_nor_touched(cloud: &Ec2Cloud, eye: &Eye<'_>) {
    let stranger =
        eye.shown("ec2.run_instances(ImageId='ami-12c6146b', MinCount=1, MaxCount=1)['Instances'][0]['InstanceId']");
    let other_owner = Owner { cloud: "west".into(), ..owner() };
    let mut other = wish("other");
    other.key.owner = other_owner.clone();
    let other = block_on(cloud.ensure(&other)).unwrap();
    let ours = block_on(cloud.ensure(&wish("ours"))).unwrap();
    assert_eq!(block_on(cloud.list(&owner())).unwrap().len(), 1);
    for id in [stranger.trim_matches('"'), &other.id] {
        let error = block_on(cloud.delete(&owner(), id)).unwrap_err();
        assert!(matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("not ours"), "{error:?}");
    }
    block_on(cloud.delete(&owner(), &ours.id)).unwrap();
    block_on(cloud.clear(&owner())).unwrap();
    let live = eye
        .shown("sorted(i['State']['Name'] for r in ec2.describe_instances()['Reservations'] for i in r['Instances'])");
    assert_eq!(live, r#"["running", "running", "terminated"]"#);
    assert_eq!(block_on(cloud.list(&other_owner)).unwrap()[0].id, other.id);
    assert_eq!(eye.shown("len(ec2.describe_key_pairs()['KeyPairs'])"), "1", "the other's key is left");
}

fn a_disk_that_lost_its_machine_is_cleared(cloud: &Ec2Cloud, eye: &Eye<'_>) {
    let tags = format!(
        "[{{'Key': 'hanse:cluster', 'Value': '{}'}}, {{'Key': 'hanse:cloud', 'Value': 'east'}}]",
        owner().cluster
    );
    eye.boto(&format!(
        "make = lambda tags: ec2.create_volume(AvailabilityZone='us-west-2a', Size=1, TagSpecifications=[{{'ResourceType': \
         'volume', 'Tags': tags}}])\nmake({tags})\nmake([{{'Key': 'whose', 'Value': 'not ours'}}])"
    ));
    assert_eq!(block_on(cloud.clear(&owner())).unwrap().len(), 1);
    assert_eq!(eye.shown("[v['Tags'][0]['Key'] for v in ec2.describe_volumes()['Volumes']]"), r#"["whose"]"#);
}

fn a_first_look_finds_what_is_wrong_and_makes_nothing(cloud: &Ec2Cloud, eye: &Eye<'_>) {
    let severities = |findings: &[hanse_adapters_core::preflight::Finding]| {
        findings.iter().map(|it| format!("{} {:?}", it.check, it.severity)).collect::<Vec<_>>()
    };
    let fine = block_on(cloud.preflight(&wish("m1"))).unwrap();
    let expected = ["credentials", "zone", "image", "type", "limit", "subnet", "rights"].map(|it| format!("{it} Fine"));
    assert_eq!(severities(&fine), expected, "{fine:#?}");

    let mut bad = wish("m1");
    bad.zone = "us-east-1x".into();
    bad.image = "ami-00000000000000000".into();
    bad.machine_type = "t99.nano".into();
    let found = block_on(cloud.preflight(&bad)).unwrap();
    let errors: Vec<&str> =
        found.iter().filter(|it| it.severity == Severity::Error).map(|it| it.check.as_str()).collect();
    assert_eq!(errors, ["zone", "image", "type", "subnet"], "{found:#?}");
    assert!(found.iter().all(|it| it.severity == Severity::Fine || !it.advice.is_empty()), "{found:#?}");
    assert_eq!(eye.shown("ec2.describe_instances()['Reservations']"), "[]");
    assert_eq!(eye.shown("ec2.describe_key_pairs()['KeyPairs']"), "[]");
}

#[test]
fn only_the_right_key_with_the_right_to_it_makes_machines() {
    let dir = tempfile::tempdir().unwrap();
    // Four calls are free, to make a person who may look and not make; then every signature is checked.
    let moto = Server::moto(dir.path(), &[], &[("INITIAL_NO_AUTH_ACTION_COUNT", "3")]).unwrap();
    let made = moto
        .boto(
            "iam = make('iam')\niam.create_user(UserName='u')\nk = iam.create_access_key(UserName='u')['AccessKey']\n\
             iam.put_user_policy(UserName='u', PolicyName='p', PolicyDocument=json.dumps({'Version': '2012-10-17', \
             'Statement': [{'Effect': 'Allow', 'Action': 'ec2:Describe*', 'Resource': '*'}]}))\n\
             print(k['AccessKeyId'], k['SecretAccessKey'])",
        )
        .unwrap();
    let (id, secret) = made.split_once(' ').unwrap();
    let target = Ec2Target { endpoint: moto.endpoint(), region: "us-east-1".into(), is_public: false };
    let wrong = Ec2Cloud::new(&target, credentials(dir.path(), id, "not-the-secret", None)).unwrap();
    let error = block_on(wrong.list(&owner())).unwrap_err();
    let words = format!("{error:?}");
    assert!(matches!(error, AdapterError::Denied { .. }) && words.contains("credentials file"), "{words}");
    assert!(!words.contains("not-the-secret"), "{words}");

    let looks = Ec2Cloud::new(&target, credentials(dir.path(), id, secret, None)).unwrap();
    assert_eq!(block_on(looks.list(&owner())).unwrap(), Vec::new(), "the signature is right");
    let error = block_on(looks.ensure(&wish("m1"))).unwrap_err();
    assert!(matches!(error, AdapterError::Denied { .. }) && error.to_string().contains("the right"), "{error:?}");
    let found = block_on(looks.preflight(&wish("m1"))).unwrap();
    let rights = found.iter().find(|it| it.check == "rights").unwrap();
    assert_eq!(rights.severity, Severity::Error, "{rights:?}");
}

#[test]
fn an_endpoint_must_show_a_certificate_of_the_named_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let (cert, key) = (file("cert.pem", &made.cert.pem()), file("key.pem", &made.signing_key.serialize_pem()));
    let wrong = file("other.pem", &other.cert.pem());
    let moto = Server::moto(dir.path(), &["-c", &cert, "-k", &key], &[]).unwrap();
    let endpoint = format!("https://localhost:{}", moto.port);
    let target = Ec2Target { endpoint, region: "us-east-1".into(), is_public: false };
    let trusted = Ec2Cloud::new(&target, credentials(dir.path(), "a", "s", Some(&cert))).unwrap();
    assert_eq!(block_on(trusted.list(&owner())).unwrap(), Vec::new());
    let distrusted = Ec2Cloud::new(&target, credentials(dir.path(), "b", "s", Some(&wrong))).unwrap();
    let error = block_on(distrusted.delete(&owner(), "i-0123456789abcdef0")).unwrap_err().to_string();
    assert!(error.contains("TLS") && error.contains("certificate"), "{error}");
}
