{{- define "entrada.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "entrada.selector" -}}
app.kubernetes.io/name: entrada
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "entrada.labels" -}}
{{ include "entrada.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "entrada.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "entrada.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "entrada.name" .) }}
{{- end -}}

{{- define "entrada.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "entrada.mounts" -}}
- { name: config, mountPath: /etc/entrada, readOnly: true }
{{- if .Values.tls.existingSecret }}
- { name: tls, mountPath: /run/secrets/tls, readOnly: true }
{{- end }}
{{- range $name, $_ := .Values.existingSecrets }}
- { name: secret-{{ $name }}, mountPath: /run/secrets/{{ $name }}, readOnly: true }
{{- end }}
{{- if .Values.storage.spool.enabled }}
- { name: spool, mountPath: /var/lib/entrada }
{{- end }}
{{- if .Values.storage.records.enabled }}
- { name: records, mountPath: /var/log/entrada }
{{- end }}
{{- end -}}
