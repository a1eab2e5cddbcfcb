{{/* What the pods of both roles have in common: (dict "root" . "component" "node" "role" .Values.node). */}}
{{- define "picket.podMetadata" -}}
annotations:
  {{- /* Policies are live: a coordinator publishes a changed one, and no node need restart for it. */}}
  {{- $config := include "picket.config" .root | fromYaml }}
  {{- if eq .component "node" }}{{ $config = omit $config "policy" }}{{ end }}
  checksum/config: {{ $config | toYaml | sha256sum }}
  {{- with .role.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- /* Without versions: a new chart alone must not end anybody's connection. */}}
labels:
  {{- include "picket.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: picket
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .role.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "picket.podSpec" -}}
serviceAccountName: {{ include "picket.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .role.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .role.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "slice" .role.topologySpreadConstraints }}
{{- with .role.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- else if .role.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "picket.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with .role.initContainers }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "picket.container" -}}
name: {{ .component }}
image: {{ include "picket.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- toYaml .root.Values.securityContext | nindent 2 }}
resources: {{- toYaml .role.resources | nindent 2 }}
{{- with .role.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Credentials of a role, as variables. */}}
{{- define "picket.env" -}}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "picket.redisSecret" .root }}
      key: {{ get .root.Values.redis (printf "%sKey" .component) }}
{{- if eq .component "node" }}
{{- /* Coordinators alone publish the policy of the values: a node that starts later does not undo what was changed since. */}}
- name: PICKET_STATE__POLICY_SOURCE
  value: state
{{- with .role.checkApi }}
{{- if .enabled }}
- name: PICKET_NODE__CHECK_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ required "node.checkApi.existingSecret: the check API needs a Secret with its bearer token" .existingSecret }}
      key: {{ .tokenKey }}
{{- end }}
{{- end }}
{{- else }}
- name: SOCKET_ADMIN_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ include "picket.adminSecret" .root }}
      key: {{ .root.Values.admin.usernameKey }}
- name: SOCKET_ADMIN_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "picket.adminSecret" .root }}
      key: {{ .root.Values.admin.passwordKey }}
{{- with .root.Values.postgres }}
{{- if .existingSecret }}
- name: PICKET_COORDINATOR__AUDIT_STORE
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .urlKey }}
{{- if .caSecret }}
- name: PGSSLROOTCERT
  value: /etc/picket/postgres/{{ .caKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.telemetry }}
{{- if .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headersSecret }}
      key: {{ .headersKey }}
{{- end }}
{{- end }}
{{- with .role.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The configuration and the secrets of a role, as files: name, path, and the volume's source. */}}
{{- define "picket.files" -}}
{{- $values := .root.Values -}}
- name: config
  path: config
  source:
    configMap: { name: {{ include "picket.fullname" .root }} }
{{- with $values.redis.caSecret }}
- name: redis-ca
  path: redis
  source: { secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- if eq .component "node" }}
{{- with $values.node.tls.existingSecret }}
- name: tls
  path: tls
  source: { secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- with $values.node.upstreamAssertion.existingSecret }}
- name: assertion
  path: assertion
  source: { secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- if and (eq .component "coordinator") $values.postgres.existingSecret }}
{{- with $values.postgres.caSecret }}
- name: postgres-ca
  path: postgres
  source: { secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- range $values.secretFiles }}
{{- if has $.component (default (list "node" "coordinator") .roles) }}
- name: secret-{{ .name }}
  path: secrets/{{ .name }}
  source: { secret: { secretName: {{ .secretName }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- end -}}

{{- define "picket.volumeMounts" -}}
{{- range include "picket.files" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: /etc/picket/{{ .path }}
  readOnly: true
{{- end }}
- name: data
  mountPath: /var/lib/picket
- name: tmp
  mountPath: /tmp
{{- with .role.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "picket.volumes" -}}
{{- range include "picket.files" . | fromYamlArray }}
- name: {{ .name }}
  {{- toYaml .source | nindent 2 }}
{{- end }}
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
{{- with .role.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
