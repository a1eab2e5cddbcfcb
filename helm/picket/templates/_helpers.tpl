{{- define "picket.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for `-coordinator-headless` and the like. */}}
{{- define "picket.fullname" -}}
{{- $name := include "picket.name" . -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $release .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "picket.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* What selects pods never changes: (dict "root" . "component" "node"). */}}
{{- define "picket.selector" -}}
app.kubernetes.io/name: {{ include "picket.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "picket.labels" -}}
{{ include "picket.selector" . }}
app.kubernetes.io/part-of: picket
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* name, namespace and labels of an object: (dict "root" . "component" "node" "suffix" "-node"). */}}
{{- define "picket.metadata" -}}
name: {{ include "picket.fullname" .root }}{{ .suffix }}
namespace: {{ include "picket.namespace" .root }}
labels:
  {{- include "picket.labels" . | nindent 2 }}
{{- end -}}

{{- define "picket.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "picket.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "picket.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "picket.redisSecret" -}}
{{- default (printf "%s-redis" (include "picket.fullname" .)) .Values.redis.existingSecret -}}
{{- end -}}

{{- define "picket.adminSecret" -}}
{{- default (printf "%s-admin" (include "picket.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}

{{/* Picket's configuration file: the one of `config`, and what the chart decides. */}}
{{- define "picket.config" -}}
{{- $node := dict "listen" "0.0.0.0:8080" "opsListen" "0.0.0.0:8081" -}}
{{- with .Values.node -}}
{{- if .tls.existingSecret -}}
{{- $_ := set $node "tls" (dict "certFile" "/etc/picket/tls/tls.crt" "keyFile" "/etc/picket/tls/tls.key") -}}
{{- end -}}
{{- if .checkApi.enabled -}}
{{- $_ := set $node "checkListen" "0.0.0.0:8082" -}}
{{- end -}}
{{- if .upstreamAssertion.existingSecret -}}
{{- $_ := set $node "upstreamAssertion" (dict "secretFile" (printf "/etc/picket/assertion/%s" .upstreamAssertion.secretKey)) -}}
{{- end -}}
{{- end -}}
{{- $state := dict -}}
{{- if .Values.redis.caSecret -}}
{{- $_ := set $state "caFile" (printf "/etc/picket/redis/%s" .Values.redis.caKey) -}}
{{- end -}}
{{- $decided := dict "node" $node "state" $state "coordinator" (dict "listen" "0.0.0.0:9090" "opsListen" "0.0.0.0:9091") -}}
{{- mergeOverwrite (deepCopy .Values.config) $decided | toYaml -}}
{{- end -}}

{{/* The whole drain, and three times five seconds to stop, two for telemetry, three to spare. */}}
{{- define "picket.gracePeriod" -}}
{{- $drain := .Values.config.node.drain -}}
{{- $drained := divf (addf $drain.graceMs $drain.spreadMs) 1000 | ceil | int -}}
{{- with .Values.node.terminationGracePeriodSeconds }}{{ . | int }}{{ else }}{{ add $drained 20 (include "picket.preStopSleep" $) }}{{ end -}}
{{- end -}}

{{/* The action `sleep`, since the image has no shell. */}}
{{- define "picket.preStopSleep" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}{{ .Values.node.preStopSleepSeconds | int }}{{ else }}0{{ end -}}
{{- end -}}

{{/* Whether the cluster has a kind, or it is wanted all the same: (dict "root" . "create" "auto" "api" "group/version"). */}}
{{- define "picket.has" -}}
{{- if or (eq .create "on") (and (eq .create "auto") (.root.Capabilities.APIVersions.Has .api)) }}true{{ end -}}
{{- end -}}

{{/* Rules of egress that every process needs: names, and Redis. Takes .Values.networkPolicy. */}}
{{- define "picket.egressToState" }}
- ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
- ports:
    {{- range .redisPorts }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .redisTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
