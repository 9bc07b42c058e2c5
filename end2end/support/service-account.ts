// A key of a service account, as Google hands it out: JSON with a private key in it that has many lines.

import { generateKeyPairSync, randomBytes } from "node:crypto";

export type ServiceAccount = {
  text: string;
  /** What is secret of it: the lines of its private key, but the first, which begins alike in every key. */
  secrets: Record<string, string>;
};

export function serviceAccount(): ServiceAccount {
  const { privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const account = {
    type: "service_account",
    project_id: "a-sample-project",
    private_key_id: randomBytes(20).toString("hex"),
    private_key: privateKey,
    client_email: "shop@a-sample-project.iam.gserviceaccount.com",
    client_id: "100000000000000000000",
    auth_uri: "https://accounts.google.com/o/oauth2/auth",
    token_uri: "https://oauth2.googleapis.com/token",
    auth_provider_x509_cert_url: "https://www.googleapis.com/oauth2/v1/certs",
    client_x509_cert_url: "https://www.googleapis.com/robot/v1/metadata/x509/shop%40a-sample-project.iam.gserviceaccount.com",
    universe_domain: "googleapis.com",
  };
  const lines = privateKey.split("\n").filter((line) => line !== "" && !line.startsWith("-----"));
  const secrets = Object.fromEntries(lines.slice(1).map((line, at) => [`line ${at + 2} of a private key`, line]));
  return { text: JSON.stringify(account, null, 2), secrets };
}
