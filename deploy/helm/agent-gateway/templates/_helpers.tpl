{{- define "agent-gateway.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agent-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "agent-gateway.labels" -}}
{{ include "agent-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* server.drain_timeout_s, whose default in the program is 30 */ -}}
{{- define "agent-gateway.drainSeconds" -}}
{{- $server := default dict .Values.config.server -}}
{{- if hasKey $server "drain_timeout_s" }}{{ ceil $server.drain_timeout_s }}{{ else }}30{{ end -}}
{{- end -}}

{{- define "agent-gateway.port" -}}
{{- $server := default dict .Values.config.server -}}
{{- default 8080 $server.port -}}
{{- end -}}
